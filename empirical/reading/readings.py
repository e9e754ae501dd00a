"""What can be sampled of a layer: its outputs, its inputs, or both, as a variable "y" or "x"."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from torch import Tensor, nn

from empirical.reading.attention import Heads
from empirical.reading.expansion import Expansion
from empirical.reading.patches import Patched, patches
from empirical.reading.points import Tap
from empirical.reading.positions import Sampler
from empirical.reading.recorder import Reading, Samples

WITH_TARGET = (("y", "y"), ("y", "t"), ("t", "t"))
WITHOUT_TARGET = (("y", "y"),)


@dataclass(frozen=True)
class Outputs:
    """The channels of a tapped layer, "y" (n, P, 1, C)."""

    tap: Tap

    @property
    def name(self) -> str:
        """Of the layer."""
        return self.tap.layer.name

    @property
    def module(self) -> str:
        """Of the submodule that is hooked."""
        return self.tap.module

    def take(self, inputs: Tensor, output: Tensor, sampler: Sampler) -> Samples:
        """Sample what `read` gives."""
        read = self.read(inputs, output)
        return {"y": sampler.take(self.name, read, self.tap.channel_dim)[:, :, None]}

    def read(self, _inputs: Tensor, output: Tensor) -> Tensor:
        """Return the output, as the tap sees it."""
        return output if self.tap.change is None else self.tap.change(output)


@dataclass(frozen=True)
class Inputs(Outputs):
    """The inputs of a wide linear layer at the positions of its outputs, "y" (n, P, 1, D)."""

    layer: Expansion

    def read(self, inputs: Tensor, _output: Tensor) -> Tensor:
        """Return the input, laid out like the output."""
        return self.layer.inputs(inputs)


@dataclass(frozen=True)
class HeadOutputs:
    """The heads of an attention, where its projection reads them, "y" (n, P, 1, C)."""

    heads: Heads

    @property
    def name(self) -> str:
        """Of the attention."""
        return self.heads.name

    @property
    def module(self) -> str:
        """Of the projection, whose input they are."""
        return self.heads.projection

    def take(self, inputs: Tensor, _output: Tensor, sampler: Sampler) -> Samples:
        """Sample the tokens of each image, those of all its windows as one map."""
        tokens = inputs.reshape(len(sampler.order), -1, inputs.shape[-1])
        return {"y": sampler.take(self.name, tokens, -1)[:, :, None]}


@dataclass(frozen=True)
class PatchesAndOutputs:
    """What a layer's channels see and compute: "x" (n, P, B, d) and "y" (n, P, B, C / B)."""

    name: str
    layer: Patched

    @property
    def module(self) -> str:
        """Of the submodule that is hooked: the layer itself."""
        return self.name

    def take(self, inputs: Tensor, output: Tensor, sampler: Sampler) -> Samples:
        """Sample the input's patches and the output at the same positions."""
        dim = -1 if isinstance(self.layer, nn.Linear) else 1
        size = output.numel() // (len(output) * output.shape[dim])
        x = patches(self.layer, inputs[sampler.order], sampler.places(self.name, size))
        y = sampler.take(self.name, output, dim)
        return {"x": x, "y": y.reshape(*y.shape[:2], x.shape[2], -1)}


def channel_readings(taps: Sequence[Tap], wide: Mapping[str, Expansion]) -> list[Reading]:
    """Read the inputs of the layers in `wide`, the outputs of all others."""
    return [
        Inputs(tap, wide[tap.layer.name]) if tap.layer.name in wide else Outputs(tap)
        for tap in taps
    ]
