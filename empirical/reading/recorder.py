"""Run batches through a model and add the sampled outputs of its layers to their moments."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from itertools import chain

import numpy as np
import torch
from torch import Tensor, nn

from empirical.measuring.null import ImageSums
from empirical.measuring.targets import TargetFunction, evaluate_target
from empirical.reading.expansion import Expansion
from empirical.reading.groups import Groups
from empirical.reading.hooks import capture, capture_inputs
from empirical.reading.points import Tap
from empirical.reading.positions import Sampler
from empirical.reading.sums import GroupedMoments
from empirical.reading.workers import workers

PART = 16
"""Fewest images of a part of a batch: below it the model's own products become inefficient."""

PART_BYTES = 8_000_000
"""Largest output of a layer that a part aims at. Such outputs stay in a core's cache, and malloc
takes them from memory that it has; larger ones the system maps and clears anew for each layer."""


@dataclass(frozen=True)
class _Part:
    """What the model did on some images of a batch; samples are sorted by group."""

    logits: Tensor
    order: np.ndarray  # of the samples' images within the batch
    groups: np.ndarray  # of the samples
    samples: dict[str, Tensor]


class Recorder:
    """Holds the moments of all layers while a model runs.

    On a CPU a batch runs in parts that suit its caches; the samples of all parts are added
    together. Hooks only copy samples, so a part that fails has added nothing.

    Parameters
    ----------
    taps : what to read
    sampler : which samples
    target : T
    groups : number of groups of images
    expansions : layer name -> what is known of the layers whose inputs are sampled
    precision : of the products within a batch
    autocast : run the model in this lower precision; None leaves it as it is
    keep_images : also keep each image's sums, for the permutation null
    """

    def __init__(
        self,
        taps: Sequence[Tap],
        sampler: Sampler,
        target: TargetFunction,
        groups: int,
        *,
        expansions: Mapping[str, Expansion],
        first_image: int = 0,
        precision: torch.dtype = torch.float64,
        autocast: torch.dtype | None = None,
        keep_images: bool = False,
    ) -> None:
        self._taps, self._sampler, self._target = taps, sampler, target
        self._groups, self._first, self._precision = groups, first_image, precision
        self._autocast, self._keep_images = autocast, keep_images
        self._expansions = expansions
        self._samples: dict[str, list[Tensor]] = {}
        self._targets: list[np.ndarray] = []
        self._images: dict[str, list[tuple[np.ndarray, np.ndarray]]] = {}
        self._largest: int | None = None  # images that the device's memory takes at once
        self._bytes = 0  # of the largest output, per image
        self._batch = 0
        self.n_images = 0
        self._sums: dict[str, GroupedMoments] = {}

    @contextmanager
    def reading(self, model: nn.Module) -> Iterator[None]:
        """Read the tapped layers of `model` whenever it runs: outputs, or inputs of expansions."""

        def of_output(tap: Tap) -> Callable[[Tensor], None]:
            def read(output: Tensor) -> None:
                changed = output if tap.change is None else tap.change(output)
                self._take(tap, changed, output.nbytes)

            return read

        def of_input(tap: Tap, layer: Expansion) -> Callable[[Tensor], None]:
            def read(images: Tensor) -> None:
                inputs = layer.inputs(images)
                wide, narrow = layer.weights.shape
                self._take(tap, inputs, inputs.nbytes * wide // narrow)

            return read

        outputs, inputs = {}, {}
        for tap in self._taps:
            layer = self._expansions.get(tap.layer.name)
            if layer is None:
                outputs[tap.module] = of_output(tap)
            else:
                inputs[tap.module] = of_input(tap, layer)
        with capture(model, outputs), capture_inputs(model, inputs):
            yield

    def _take(self, tap: Tap, values: Tensor, size: int) -> None:
        self._bytes = max(self._bytes, size // max(1, len(values)))
        taken = self._sampler.take(values, tap.channel_dim)
        self._samples.setdefault(tap.layer.name, []).append(taken)

    def run(self, model: nn.Module, images: Tensor, labels: Tensor) -> None:
        """Run one batch and add it; in halves, with a warning, where the device's memory ends.

        Raises
        ------
        ValueError
            an output that is NaN or infinite, naming layer and batch; a layer that did not run
        """
        start, parts = 0, []
        while start < len(images):
            part = slice(start, start + self._part_size(images[start:]))
            try:
                parts.append(self._run(model, images[part], start))
            except torch.OutOfMemoryError:
                self._halve(part.stop - part.start)
            else:
                start = part.stop
        self._add(parts, labels)
        self._batch += 1

    def _part_size(self, rest: Tensor) -> int:
        """How many of the remaining images of a batch run next."""
        n = len(rest)
        if rest.device.type == "cpu":
            # the first images of all show how large the outputs are
            wanted = -(-n * self._bytes // PART_BYTES) if self._bytes else n
            n = -(-n // max(1, min(wanted, n // PART)))
        return n if self._largest is None else min(n, self._largest)

    def moments(self) -> dict[str, Groups]:
        """Return layer name -> Moments of each group; what was recorded is given up for it."""

        def of_layer(name: str) -> Groups:
            return Groups(self._sums.pop(name).moments(), self._expansions.get(name))

        names = [tap.layer.name for tap in self._taps]
        with workers() as pool:
            return dict(zip(names, pool.map(of_layer, names), strict=True))

    def image_sums(self, layer: str, weights: np.ndarray | None = None) -> ImageSums:
        """Return what the permutation null needs; targets times `weights`, if given."""
        parts = self._images[layer]
        targets = np.concatenate(self._targets)
        samples, channels = (np.concatenate(part) for part in zip(*parts, strict=True))
        if layer in self._expansions:
            channels = self._expansions[layer].image_sums(samples, channels)
        return ImageSums(
            samples,
            channels,
            targets if weights is None else targets @ weights,
        )

    def _halve(self, size: int) -> None:
        if size == 1:
            raise torch.OutOfMemoryError(
                "out of device memory with a batch of one image. Use smaller images, fewer layers "
                "or another device."
            )
        self._samples.clear()
        self._largest = size // 2
        warnings.warn(
            f"out of device memory with a batch of {size} images; going on in batches of "
            f"{self._largest}, with the same result. Choose a smaller batch size in the loader.",
            RuntimeWarning,
            stacklevel=2,
        )
        if torch.cuda.is_available():
            torch.cuda.empty_cache()

    def _run(self, model: nn.Module, images: Tensor, start: int) -> _Part:
        """Run images of a batch, the first of them its image `start`."""
        first = self._first + self.n_images + start
        self._sampler.begin(first, len(images))
        self._samples.clear()
        device = images.device.type
        with ExitStack() as stack:
            if self._autocast is not None:
                stack.enter_context(torch.autocast(device, self._autocast))
            logits = model(images)
        self._check_samples()
        order = start + self._sampler.order.cpu().numpy()
        groups = np.repeat(np.arange(self._groups), self._sampler.images_per_group)
        # the uses of a shared module lie side by side, as further positions
        samples = {name: _joined(uses, dim=1) for name, uses in self._samples.items()}
        self._samples.clear()
        return _Part(logits, order, groups, samples)

    def _add(self, parts: Sequence[_Part], labels: Tensor) -> None:
        """Add a whole batch: one product per layer and group, however many parts it ran in."""
        groups = np.concatenate([part.groups for part in parts])
        by_group = np.argsort(groups, kind="stable")
        order = np.concatenate([part.order for part in parts])[by_group]
        per_group = np.bincount(groups, minlength=self._groups).tolist()
        # products must not follow an autocast that the caller has entered
        with torch.autocast(labels.device.type, enabled=False):
            logits = _joined([part.logits for part in parts])
            targets = evaluate_target(self._target, logits, labels)[order]
            samples = {
                tap.layer.name: _by_group(
                    [part.samples.pop(tap.layer.name) for part in parts], by_group
                )
                for tap in self._taps
            }
            self._add_layers(samples, targets, per_group)
        if self._keep_images:
            self._targets.append(targets.cpu().numpy())
        self.n_images += len(labels)

    def _add_layers(
        self, samples: dict[str, Tensor], targets: Tensor, images_per_group: Sequence[int]
    ) -> None:
        if targets.device.type != "cpu":
            for name in list(samples):
                self._add_layer(name, samples.pop(name), targets, images_per_group)
            return
        largest_first = sorted(samples, key=lambda name: -samples[name].numel())
        with workers() as pool:
            done = [
                pool.submit(self._add_layer, name, samples.pop(name), targets, images_per_group)
                for name in largest_first
            ]
        for task in done:
            task.result()

    def _add_layer(
        self, layer: str, samples: Tensor, targets: Tensor, images_per_group: Sequence[int]
    ) -> None:
        if layer not in self._sums:
            self._sums[layer] = GroupedMoments(
                samples.shape[2], targets.shape[1], self._groups, targets.device, self._precision
            )
        self._sums[layer].add(samples, targets, images_per_group)
        if self._keep_images:
            n, positions, _ = samples.shape
            channels = samples.sum(1, dtype=torch.float64).cpu().numpy()
            self._images.setdefault(layer, []).append((np.full(n, float(positions)), channels))

    def _check_samples(self) -> None:
        missing = [tap.layer.name for tap in self._taps if tap.layer.name not in self._samples]
        if missing:
            raise ValueError(
                f"layer {missing[0]!r} did not run on batch {self._batch}. A layer that runs only "
                "on some inputs cannot be measured; leave it out by passing layers=[...]."
            )
        # The extremes are finite only if everything between them is; a NaN is its own extreme. One
        # transfer for all layers, since on a GPU each would wait for the whole queue.
        extremes = [torch.stack(part.aminmax()) for part in chain(*self._samples.values())]
        finite = torch.isfinite(torch.stack(extremes).double()).all(dim=1)
        if not bool(finite.all()):
            names = [name for name, parts in self._samples.items() for _ in parts]
            layer = names[int((~finite).nonzero()[0])]
            raise ValueError(
                f"the outputs of layer {layer!r} on batch {self._batch} hold NaN or infinity. "
                "Check the model's weights, or run it in float32."
            )


def _by_group(parts: Sequence[Tensor], order: np.ndarray) -> Tensor:
    return parts[0] if len(parts) == 1 else torch.cat(list(parts))[order]


def _joined(tensors: Sequence[Tensor], dim: int = 0) -> Tensor:
    return tensors[0] if len(tensors) == 1 else torch.cat(list(tensors), dim=dim)
