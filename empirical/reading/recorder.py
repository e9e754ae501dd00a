"""The one pass: run batches through a model and add samples of its layers to sums."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from itertools import chain
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from empirical.reading.ahead import hashed
from empirical.reading.batches import Batch
from empirical.reading.hooks import capture_calls, evaluating
from empirical.reading.outputs import answered
from empirical.reading.positions import Sampler
from empirical.reading.workers import workers

PART = 16
"""Fewest images of a part of a batch: below it the model's own products become inefficient."""

PART_BYTES = 8_000_000
"""Largest output of a layer that a part aims at. Such outputs stay in a core's cache, and malloc
takes them from memory that it has; larger ones the system maps and clears anew for each layer."""

Samples = dict[str, Tensor]
"""Variable -> samples (n, P, B, A), images in the order of a sampler."""

Target = Callable[[object, Batch], Tensor]
"""(what the model returned for a batch, the batch) -> (n, q) float64."""


class Reading(Protocol):
    """What is sampled of one layer at each of its calls."""

    @property
    def name(self) -> str:
        """Of the layer: it names the positions and the sums."""

    @property
    def module(self) -> str:
        """Dotted name of the submodule whose calls are read."""

    def take(self, inputs: Tensor, output: Tensor, sampler: Sampler) -> Samples:
        """Copy samples out of the input and the output of one call."""


class Sink(Protocol):
    """What samples are added to."""

    def add(
        self,
        values: Mapping[str, Tensor],
        images_per_group: Sequence[int],
        images: NDArray[np.int64],
    ) -> None:
        """Add a batch, given the images' indices in the data; targets are the variable "t"."""


@dataclass(frozen=True)
class _Part:
    """What the model did on some images of a batch; samples are sorted by group."""

    returned: object
    order: NDArray[np.int64]  # of the samples' images within the batch
    groups: NDArray[np.int64]  # of the samples
    samples: dict[int, Samples]


class Recorder:
    """Adds samples of all layers to their sinks while a model runs.

    On a CPU a batch runs in parts that suit its caches; the samples of all parts are added
    together. Hooks only copy samples, so a part that fails has added nothing.

    Parameters
    ----------
    readings : what to read, each with the sinks that its samples go to
    sampler : which samples
    target : T; None for none, and parts are then added one by one
    autocast : run the model in this lower precision; None leaves it as it is
    """

    def __init__(
        self,
        readings: Sequence[tuple[Reading, Sequence[Sink]]],
        sampler: Sampler,
        *,
        target: Target | None = None,
        autocast: torch.dtype | None = None,
    ) -> None:
        self._readings = [reading for reading, _ in readings]
        self._sinks = [sinks for _, sinks in readings]
        self._sampler = sampler
        self._target, self._autocast = target, autocast
        self._taken: dict[int, list[Samples]] = {}  # number of the reading -> its calls
        self._largest: int | None = None  # images that the device's memory takes at once
        self._bytes = 0  # of the largest output, per image
        self.n_images = 0

    @contextmanager
    def reading(self, model: nn.Module) -> Iterator[None]:
        """Read the layers of `model` whenever it runs."""
        of_module: dict[str, list[int]] = {}
        for number, reading in enumerate(self._readings):
            of_module.setdefault(reading.module, []).append(number)

        def reader(numbers: Sequence[int]) -> Callable[[Tensor, Tensor], None]:
            def read(inputs: Tensor, output: Tensor) -> None:
                self._bytes = max(self._bytes, output.nbytes // max(1, len(output)))
                for number in numbers:
                    taken = self._readings[number].take(inputs, output, self._sampler)
                    self._taken.setdefault(number, []).append(taken)

            return read

        with capture_calls(model, {name: reader(found) for name, found in of_module.items()}):
            yield

    def read(
        self, model: nn.Module, stream: Iterable[Batch], digests: set[bytes] | None = None
    ) -> None:
        """Run and add all batches, in evaluation mode; `digests` gets those of the images."""
        with evaluating(model), self.reading(model):
            if digests is None:
                for batch in stream:
                    self.run(model, batch)
                return
            for batch, own in hashed(iter(stream), self._sampler.device):
                digests.update(own)
                self.run(model, batch)

    def run(self, model: nn.Module, batch: Batch) -> None:
        """Run one batch and add it; in halves, with a warning, where the device's memory ends.

        Raises
        ------
        ValueError
            an output or target that is NaN or infinite, naming layer and batch; a layer that did
            not run
        """
        start, parts = 0, []
        while start < len(batch.images):
            part = slice(start, start + self._part_size(batch.images[start:]))
            try:
                parts.append(self._run(model, batch, part))
            except torch.OutOfMemoryError:
                self._halve(part.stop - part.start)
            else:
                start = part.stop
                if self._target is None:
                    self._add([parts.pop()], batch)
        if parts:
            self._add(parts, batch)
        self.n_images += len(batch.images)

    def _part_size(self, rest: Tensor) -> int:
        """How many of the remaining images of a batch run next."""
        n = len(rest)
        if rest.device.type == "cpu":
            # the first images of all show how large the outputs are
            wanted = -(-n * self._bytes // PART_BYTES) if self._bytes else n
            n = -(-n // max(1, min(wanted, n // PART)))
        return n if self._largest is None else min(n, self._largest)

    def _halve(self, size: int) -> None:
        if size == 1:
            raise torch.OutOfMemoryError(
                "out of device memory with a batch of one image. Use smaller images, fewer layers "
                "or another device."
            )
        self._taken.clear()
        self._largest = size // 2
        warnings.warn(
            f"out of device memory with a batch of {size} images; going on in batches of "
            f"{self._largest}, with the same result. Choose a smaller batch size in the loader.",
            RuntimeWarning,
            stacklevel=2,
        )
        if torch.cuda.is_available():
            torch.cuda.empty_cache()

    def _run(self, model: nn.Module, batch: Batch, part: slice) -> _Part:
        """Run some images of a batch."""
        images = batch.images[part]
        self._sampler.begin(batch.first + part.start, len(images))
        self._taken.clear()
        with ExitStack() as stack:
            if self._autocast is not None:
                stack.enter_context(torch.autocast(images.device.type, self._autocast))
            returned = self._call(model, batch.part(part))
        missing = [n for n in range(len(self._readings)) if n not in self._taken]
        if missing:
            raise ValueError(
                f"layer {self._readings[missing[0]].name!r} did not run on batch {batch.number}. "
                "A layer that runs only on some inputs cannot be measured; leave it out by passing "
                "layers=[...]."
            )
        # the uses of a shared module lie side by side, as further positions
        samples = {
            number: {key: _joined([use[key] for use in uses], dim=1) for key in uses[0]}
            for number, uses in self._taken.items()
        }
        self._taken.clear()
        counts = self._sampler.images_per_group
        groups = np.repeat(np.arange(len(counts)), counts)
        return _Part(returned, part.start + self._sampler.host_order, groups, samples)

    def _call(self, model: nn.Module, batch: Batch) -> object:
        """Run the model, whose hooks fill `_taken`."""
        return answered(model, batch.images)

    def _add(self, parts: Sequence[_Part], batch: Batch) -> None:
        """Add a whole batch: one product per layer and group, however many parts it ran in."""
        groups = np.concatenate([part.groups for part in parts])
        by_group = np.argsort(groups, kind="stable")
        order = np.concatenate([part.order for part in parts])[by_group]
        per_group = np.bincount(groups, minlength=self._sampler.groups).tolist()
        # products must not follow an autocast that the caller has entered
        with torch.autocast(batch.images.device.type, enabled=False):
            targets: Samples = {}
            if self._target is not None:
                found = self._target(_returned(parts), batch)
                targets["t"] = found[torch.from_numpy(order).to(found.device)]
            samples = {
                number: {
                    key: _by_group([part.samples[number].pop(key) for part in parts], by_group)
                    for key in list(parts[0].samples[number])
                }
                for number in range(len(self._readings))
            }
            self._check_finite(samples, targets, batch.number)
            self._add_layers(samples, targets, per_group, batch.first + order, batch.images.device)

    def _add_layers(
        self,
        samples: dict[int, Samples],
        targets: Samples,
        images_per_group: Sequence[int],
        images: NDArray[np.int64],
        device: torch.device,
    ) -> None:
        def add(number: int) -> None:
            values = samples.pop(number) | targets
            for sink in self._sinks[number]:
                sink.add(values, images_per_group, images)

        largest_first = sorted(
            samples, key=lambda number: -sum(value.numel() for value in samples[number].values())
        )
        if device.type != "cpu":
            for number in largest_first:
                add(number)
            return
        with workers() as pool:
            for task in [pool.submit(add, number) for number in largest_first]:
                task.result()

    def _check_finite(self, samples: Mapping[int, Samples], targets: Samples, batch: int) -> None:
        """Say which layer gave what is not finite: one look for all of a batch.

        Extremes are finite only if everything between them is; a NaN is its own extreme. One
        transfer for all layers, since on a GPU each would wait for the whole queue.
        """
        values = {**samples, -1: targets}
        named = [(n, key, value) for n, found in values.items() for key, value in found.items()]
        # in float64, which holds the extremes of every type
        extremes = chain.from_iterable(value.aminmax() for _, _, value in named)
        finite = torch.stack([extreme.double() for extreme in extremes]).isfinite().tolist()
        if all(finite):
            return
        number, key, _ = named[finite.index(False) // 2]
        if number < 0:
            raise ValueError(
                "target must be finite; the logits or the target function gave NaN or infinity "
                f"on batch {batch}. Check the model's weights and its inputs."
            )
        raise ValueError(
            f"the {'inputs' if key == 'x' else 'outputs'} of layer "
            f"{self._readings[number].name!r} on batch {batch} hold NaN or infinity. "
            "Check the model's weights, or run it in float32."
        )


def _returned(parts: Sequence[_Part]) -> object:
    """What the model returned for a whole batch; for one part whatever it is."""
    found = [part.returned for part in parts]
    if len(found) == 1:
        return found[0]
    tensors = [value for value in found if isinstance(value, Tensor)]
    return _joined(tensors) if len(tensors) == len(found) else found[0]


def _by_group(parts: Sequence[Tensor], order: NDArray[np.int64]) -> Tensor:
    return parts[0] if len(parts) == 1 else torch.cat(list(parts))[order]


def _joined(tensors: Sequence[Tensor], dim: int = 0) -> Tensor:
    return tensors[0] if len(tensors) == 1 else torch.cat(list(tensors), dim=dim)
