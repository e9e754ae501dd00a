"""Outputs of layers together with the gradients of what the model returns, at every position."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any, Protocol, cast

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from empirical.reading.batches import Batch
from empirical.reading.hooks import edit
from empirical.reading.layers import ACTIVATIONS
from empirical.reading.points import Tap
from empirical.reading.positions import Sampler
from empirical.reading.recorder import PART, Reading, Recorder, Samples, Sink, Target

KEPT_BYTES = 64_000_000
"""Outputs of tapped layers that a part of a batch aims at on a CPU; with what the model itself
keeps for its backward pass and with gradients, a part takes five to ten times as much."""

Cotangents = Callable[[object, Batch], Tensor]
"""(what the model returned, the batch) -> (m, *its shape): what is pulled back, m times."""


class GradientReading(Protocol):
    """What is made of a layer's outputs and of their gradients."""

    @property
    def tap(self) -> Tap:
        """Where the layer is tapped."""

    @property
    def name(self) -> str:
        """Of the layer."""

    @property
    def module(self) -> str:
        """Of the submodule that is hooked."""

    def take(
        self, outputs: Sequence[Tensor], gradients: Sequence[Sequence[Tensor]], sampler: Sampler
    ) -> Samples:
        """Return samples (n, P, B, A) of one batch, images in the order of the sampler.

        `outputs` are of each call of the layer, `gradients` of each pull-back and call.
        """


@dataclass(frozen=True)
class _Kept:
    """An output of a tapped layer, as it was when it was taken."""

    number: int
    tensor: Tensor
    version: int


class GradientRecorder(Recorder):
    """Adds samples of outputs and gradients to their sinks, image by image.

    Each part of a batch runs forward once and backward m times. An image's gradient is its own:
    the model must keep images apart, as it does in evaluation mode.

    Parameters
    ----------
    readings : what to make of which layer, each with the sinks that its samples go to
    sampler : which image belongs to which group; every position counts
    cotangents : what is pulled back
    target, autocast : as of `Recorder`
    """

    def __init__(
        self,
        readings: Sequence[tuple[GradientReading, Sequence[Sink]]],
        sampler: Sampler,
        cotangents: Cotangents,
        *,
        target: Target | None = None,
        autocast: torch.dtype | None = None,
    ) -> None:
        # `take` is called after the backward pass, by this class
        named = cast(Sequence[tuple[Reading, Sequence[Sink]]], readings)
        super().__init__(named, sampler, target=target, autocast=autocast)
        self._gradient_readings = [reading for reading, _ in readings]
        self._cotangents = cotangents
        self._kept: list[_Kept] = []
        self._copied: set[int] = set()  # layers whose output the model overwrites
        self._pulls = 1

    @contextmanager
    def reading(self, model: nn.Module) -> Iterator[None]:
        """Keep the outputs of the tapped layers of `model` whenever it runs."""
        self._inside: dict[str, list[int]] = {}
        editors: dict[str, Callable[[Tensor], Tensor]] = {}
        for number, reading in enumerate(self._gradient_readings):
            if reading.tap.change is None:
                editors[reading.tap.module] = self._keeper(number)
            else:
                self._inside.setdefault(reading.tap.module, []).append(number)
        self._after = _AfterActivation(self._keep)
        editors |= {module: self._announcer(numbers[0]) for module, numbers in self._inside.items()}
        with edit(model, editors):
            yield

    def _keeper(self, number: int) -> Callable[[Tensor], Tensor]:
        return lambda output: self._keep(number, output)

    def _announcer(self, number: int) -> Callable[[Tensor], Tensor]:
        def announce(output: Tensor) -> Tensor:
            self._after.expect(number, output)
            return output

        return announce

    def _keep(self, number: int, output: Tensor) -> Tensor:
        frozen = not output.requires_grad
        kept = output.detach().requires_grad_(True) if frozen else output
        self._kept.append(_Kept(number, kept, kept._version))
        # autograd refuses to overwrite a leaf, and an overwritten output is no longer the layer's
        return kept.clone() if frozen or number in self._copied else kept

    def _part_size(self, rest: Tensor) -> int:
        n = len(rest)
        if rest.device.type == "cpu":
            size = KEPT_BYTES // (self._bytes * self._pulls) if self._bytes else PART
            n = -(-n // -(-n // max(1, min(n, size))))
        return n if self._largest is None else min(n, self._largest)

    def _call(self, model: nn.Module, batch: Batch) -> object:
        try:
            return self._forward_and_back(model, batch)
        finally:
            self._kept = []  # where memory ended, for the smaller part to come

    def _forward_and_back(self, model: nn.Module, batch: Batch) -> object:
        with torch.enable_grad():
            returned = self._forward(model, batch)
            if not self._kept:
                return returned
            found = self._cotangents(returned, batch)
            if not returned.requires_grad:
                raise ValueError(
                    "model must be differentiable; its outputs have no gradient. Check that its "
                    "forward neither detaches nor runs under torch.no_grad()."
                )
            self._pulls = len(found)
            tensors = [kept.tensor for kept in self._kept]
            gradients = [
                _pulled_back(returned, cotangent, tensors, keep=draw + 1 < len(found))
                for draw, cotangent in enumerate(found)
            ]
        self._bytes = sum(tensor.nbytes for tensor in tensors) // len(batch.images)
        numbers = [kept.number for kept in self._kept]
        for number, reading in enumerate(self._gradient_readings):
            calls = [call for call, owner in enumerate(numbers) if owner == number]
            if calls:
                outputs = [tensors[call].detach() for call in calls]
                own = [[of_draw[call] for call in calls] for of_draw in gradients]
                self._check_images(reading.tap, outputs, len(batch.images))
                with torch.autocast(batch.images.device.type, enabled=False):
                    self._taken[number] = [reading.take(outputs, own, self._sampler)]
        return returned.detach()

    def _forward(self, model: nn.Module, batch: Batch) -> Any:
        """Run the model; once more where it has overwritten an output that was to be kept."""
        while True:
            self._kept = []
            self._after.forget()
            with self._after if self._inside else nullcontext():
                returned = model(batch.images)
            overwritten = {k.number for k in self._kept if k.tensor._version != k.version}
            if overwritten <= self._copied:
                return returned
            self._copied |= overwritten

    def _check_images(self, tap: Tap, outputs: Sequence[Tensor], n: int) -> None:
        for output in outputs:
            if output.shape[0] != n:
                raise ValueError(
                    "model must keep images along the first dimension of every measured output; "
                    f"layer {tap.layer.name!r} gave an output of shape {tuple(output.shape)} for "
                    f"{n} images. Leave this layer out by passing layers=[...]."
                )


class _AfterActivation(TorchFunctionMode):
    """Keeps what an activation makes of an announced output."""

    def __init__(self, keep: Callable[[int, Tensor], Tensor]) -> None:
        super().__init__()
        self._keep = keep
        self._expected: list[_Kept] = []

    def forget(self) -> None:
        """Expect nothing any more."""
        self._expected = []

    def expect(self, number: int, output: Tensor) -> None:
        """Announce an output that an activation will receive."""
        self._expected.append(_Kept(number, output, output._version))

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: object,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        owner = None
        if func in ACTIVATIONS and args and isinstance(args[0], Tensor):
            owner = next((kept for kept in self._expected if _is(args[0], kept)), None)
        result = func(*args, **(kwargs or {}))
        if owner is None:
            return result
        self._expected.remove(owner)
        return self._keep(owner.number, result)


def _is(tensor: Tensor, kept: _Kept) -> bool:
    """Whether `tensor` is what was announced, unchanged."""
    return (
        tensor.data_ptr() == kept.tensor.data_ptr()
        and tensor.shape == kept.tensor.shape
        and tensor.stride() == kept.tensor.stride()
        and tensor._version == kept.version
    )


def _pulled_back(
    returned: Tensor, cotangent: Tensor, tensors: Sequence[Tensor], *, keep: bool
) -> list[Tensor]:
    """Gradients of (returned · cotangent) at the tensors; zero where nothing depends on one."""
    found = torch.autograd.grad(returned, tensors, cotangent, retain_graph=keep, allow_unused=True)
    return [
        torch.zeros_like(tensor) if gradient is None else gradient
        for tensor, gradient in zip(tensors, found, strict=True)
    ]
