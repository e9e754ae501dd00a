"""Run batches through a model and add the sampled outputs of its layers to their moments."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from itertools import chain

import numpy as np
import torch
from torch import Tensor, nn

from empirical.measuring.accumulate import GroupedMoments
from empirical.measuring.permutation import ImageSums
from empirical.measuring.points import Tap
from empirical.measuring.sampling import Sampler
from empirical.measuring.targets import TargetFunction, evaluate_target


class Recorder:
    """Holds the moments of all layers while a model runs.

    A batch is added as a whole after its forward pass, or not at all: the hooks only copy samples.

    Parameters
    ----------
    taps : what to read
    sampler : which samples
    target : T
    groups : number of groups of images
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
        first_image: int = 0,
        precision: torch.dtype = torch.float64,
        autocast: torch.dtype | None = None,
        keep_images: bool = False,
    ) -> None:
        self._taps, self._sampler, self._target = taps, sampler, target
        self._groups, self._first, self._precision = groups, first_image, precision
        self._autocast, self._keep_images = autocast, keep_images
        self._samples: dict[str, list[Tensor]] = {}
        self._targets: list[np.ndarray] = []
        self._images: dict[str, list[tuple[np.ndarray, np.ndarray]]] = {}
        self._largest: int | None = None
        self._batch = 0
        self.n_images = 0
        self.sums: dict[str, GroupedMoments] = {}

    def readers(self) -> Mapping[str, Callable[[Tensor], None]]:
        """Return the functions to hang on the submodules, for `activations.capture`."""

        def reader(tap: Tap) -> Callable[[Tensor], None]:
            def read(output: Tensor) -> None:
                changed = output if tap.change is None else tap.change(output)
                taken = self._sampler.take(changed, tap.channel_dim)
                self._samples.setdefault(tap.layer.name, []).append(taken)

            return read

        return {tap.module: reader(tap) for tap in self._taps}

    def run(self, model: nn.Module, images: Tensor, labels: Tensor) -> None:
        """Run one batch and add it; in halves, with a warning, where the device's memory ends.

        Raises
        ------
        ValueError
            an output that is NaN or infinite, naming layer and batch; a layer that did not run
        """
        start = 0
        while start < len(images):
            stop = len(images) if self._largest is None else start + self._largest
            part = slice(start, min(stop, len(images)))
            try:
                self._run(model, images[part], labels[part])
            except torch.OutOfMemoryError:
                self._halve(part.stop - part.start)
            else:
                start = part.stop
        self._batch += 1

    def image_sums(self, layer: str, weights: np.ndarray | None = None) -> ImageSums:
        """Return what the permutation null needs; targets times `weights`, if given."""
        parts = self._images[layer]
        targets = np.concatenate(self._targets)
        return ImageSums(
            np.concatenate([samples for samples, _ in parts]),
            np.concatenate([channels for _, channels in parts]),
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

    def _run(self, model: nn.Module, images: Tensor, labels: Tensor) -> None:
        self._sampler.begin(self._first + self.n_images, len(images))
        self._samples.clear()
        device = images.device.type
        with ExitStack() as stack:
            if self._autocast is not None:
                stack.enter_context(torch.autocast(device, self._autocast))
            logits = model(images)
        # products must not follow an autocast that the caller has entered
        with torch.autocast(device, enabled=False):
            self._check_samples()
            targets = evaluate_target(self._target, logits, labels)[self._sampler.order]
            for tap in self._taps:
                # the uses of a shared module lie side by side, as further positions
                uses = self._samples.pop(tap.layer.name)
                samples = uses[0] if len(uses) == 1 else torch.cat(uses, dim=1)
                self._add(tap.layer.name, samples, targets)
        if self._keep_images:
            self._targets.append(targets.cpu().numpy())
        self.n_images += len(images)

    def _add(self, layer: str, samples: Tensor, targets: Tensor) -> None:
        if layer not in self.sums:
            self.sums[layer] = GroupedMoments(
                samples.shape[2], targets.shape[1], self._groups, targets.device, self._precision
            )
        self.sums[layer].add(samples, targets, self._sampler.images_per_group)
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
