"""Run batches through a model and add the sampled outputs of its layers to their moments."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence

import torch
from torch import Tensor, nn

from empirical.accumulate import GroupedMoments
from empirical.layers import Layer
from empirical.sampling import Sampler
from empirical.targets import TargetFunction, evaluate_target


class Recorder:
    """Holds the moments of all layers while a model runs.

    A batch is added as a whole after its forward pass, or not at all: the hooks only copy samples.
    """

    def __init__(
        self,
        layers: Sequence[Layer],
        sampler: Sampler,
        target: TargetFunction,
        groups: int,
        first_image: int = 0,
    ) -> None:
        self._layers, self._sampler, self._target = layers, sampler, target
        self._groups, self._first = groups, first_image
        self._samples: dict[str, list[Tensor]] = {}
        self._sums: dict[str, GroupedMoments] = {}
        self._batch = 0
        self.n_images = 0

    def readers(self) -> Mapping[str, Callable[[Tensor], None]]:
        """Return the functions to hang on the layers, for `activations.capture`."""

        def reader(layer: Layer) -> Callable[[Tensor], None]:
            def read(output: Tensor) -> None:
                taken = self._sampler.take(output, layer.channel_dim)
                self._samples.setdefault(layer.name, []).append(taken)

            return read

        return {layer.name: reader(layer) for layer in self._layers}

    def run(self, model: nn.Module, images: Tensor, labels: Tensor) -> None:
        """Run one batch and add it.

        Raises
        ------
        ValueError
            an output that is NaN or infinite, naming layer and batch; a layer that did not run
        """
        self._sampler.begin(self._first + self.n_images, len(images))
        self._samples.clear()
        logits = model(images)
        self._check_samples()
        targets = evaluate_target(self._target, logits, labels)[self._sampler.order]
        for layer in self._layers:
            # the uses of a shared module lie side by side, as further positions
            samples = torch.cat(self._samples.pop(layer.name), dim=1)
            self._sums_of(layer, targets).add(samples, targets, self._sampler.images_per_group)
        self.n_images += len(images)
        self._batch += 1

    def sums(self) -> Iterator[tuple[Layer, GroupedMoments]]:
        """Yield each layer with its accumulated sums, handing them over."""
        for layer in self._layers:
            yield layer, self._sums.pop(layer.name)

    def _sums_of(self, layer: Layer, targets: Tensor) -> GroupedMoments:
        if layer.name not in self._sums:
            self._sums[layer.name] = GroupedMoments(
                layer.n_channels, targets.shape[1], self._groups, targets.device
            )
        return self._sums[layer.name]

    def _check_samples(self) -> None:
        missing = [layer.name for layer in self._layers if layer.name not in self._samples]
        if missing:
            raise ValueError(
                f"layer {missing[0]!r} did not run on batch {self._batch}. A layer that runs only "
                "on some inputs cannot be measured; leave it out by passing layers=[...]."
            )
        # one transfer for all layers: on a GPU each would wait for the whole queue
        finite = torch.stack(
            [torch.isfinite(part).all() for parts in self._samples.values() for part in parts]
        )
        if not bool(finite.all()):
            names = [name for name, parts in self._samples.items() for _ in parts]
            layer = names[int((~finite).nonzero()[0])]
            raise ValueError(
                f"the outputs of layer {layer!r} on batch {self._batch} hold NaN or infinity. "
                "Check the model's weights, or run it in float32."
            )
