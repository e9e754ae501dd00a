"""Outputs of layers together with the gradients of what the model returns, at every position."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Protocol, cast

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from empirical.reading.batches import Batch
from empirical.reading.hooks import edit
from empirical.reading.layers import ACTIVATIONS
from empirical.reading.outputs import answered
from empirical.reading.points import Tap
from empirical.reading.positions import Sampler
from empirical.reading.recorder import PART, Reading, Recorder, Samples, Sink, Target

KEPT_BYTES = 64_000_000
"""Outputs of tapped layers that a part of a batch aims at on a CPU; with what the model itself
keeps for its backward pass and with gradients, a part takes five to ten times as much."""

Cotangents = Callable[[object, Batch], Tensor]
"""(what the model returned, the batch) -> (m, *its shape): what is pulled back, m times."""


@dataclass(frozen=True)
class Call:
    """One call of a tapped layer.

    Attributes
    ----------
    output : at the tap
    gradients : at the tap, one of each pull-back
    activated : what the activation that follows made of it; None if it is not read
    activated_gradients : there, one of each pull-back
    """

    output: Tensor
    gradients: Sequence[Tensor]
    activated: Tensor | None = None
    activated_gradients: Sequence[Tensor] = ()


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

    @property
    def activated(self) -> str | None:
        """Submodule whose output goes into the activation that is read too; None if none is."""

    def take(self, calls: Sequence[Call], sampler: Sampler) -> Samples:
        """Return samples (n, P, B, A) of one batch, images in the order of the sampler."""


Place = tuple[int, bool]
"""Number of a reading, and whether it is after the activation instead of at the tap."""


@dataclass(frozen=True)
class _Kept:
    """An output of a tapped layer, as it was when it was taken."""

    place: Place
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
        self._copied: set[Place] = set()  # whose output the model overwrites
        self._pulls = 1

    @contextmanager
    def reading(self, model: nn.Module) -> Iterator[None]:
        """Keep the outputs of the tapped layers of `model` whenever it runs."""
        self._after = _AfterActivation(self._keep)
        chains: dict[str, list[Callable[[Tensor], Tensor]]] = {}
        for number, reading in enumerate(self._gradient_readings):
            inside = reading.tap.change is not None
            if not inside:
                keep = partial(self._keep, (number, False))
                chains.setdefault(reading.tap.module, []).insert(0, keep)
            announced = reading.tap.module if inside else reading.activated
            if announced is not None:
                place = (number, not inside)
                chains.setdefault(announced, []).append(partial(self._after.expect, place))
        with edit(model, {module: _in_turn(chain) for module, chain in chains.items()}):
            yield

    def _keep(self, place: Place, output: Tensor) -> Tensor:
        frozen = not output.requires_grad
        kept = output.detach().requires_grad_(True) if frozen else output
        self._kept.append(_Kept(place, kept, kept._version))
        # autograd refuses to overwrite a leaf, and an overwritten output is no longer the layer's
        return kept.clone() if frozen or place in self._copied else kept

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
        places = [kept.place for kept in self._kept]
        for number, reading in enumerate(self._gradient_readings):
            at, after = (
                [k for k, place in enumerate(places) if place == (number, side)]
                for side in (False, True)
            )
            if reading.activated is not None and len(after) != len(at):
                raise ValueError(
                    f"layer {reading.name!r} was followed by its activation on an example, and is "
                    f"not on batch {batch.number}. Leave it out by passing layers=[...]."
                )
            calls = [Call(tensors[k].detach(), [drawn[k] for drawn in gradients]) for k in at]
            for index, k in enumerate(after):
                own = [drawn[k] for drawn in gradients]
                calls[index] = replace(
                    calls[index], activated=tensors[k].detach(), activated_gradients=own
                )
            if calls:
                self._check_images(reading.tap, calls, len(batch.images))
                with torch.autocast(batch.images.device.type, enabled=False):
                    self._taken[number] = [reading.take(calls, self._sampler)]
        return returned.detach()

    def _forward(self, model: nn.Module, batch: Batch) -> Any:
        """Run the model; once more where it has overwritten an output that was to be kept."""
        while True:
            self._kept = []
            self._after.forget()
            with self._after:
                returned = answered(model, batch.images)
            overwritten = {k.place for k in self._kept if k.tensor._version != k.version}
            if overwritten <= self._copied:
                return returned
            self._copied |= overwritten

    def _check_images(self, tap: Tap, calls: Sequence[Call], n: int) -> None:
        for call in calls:
            if call.output.shape[0] != n:
                raise ValueError(
                    "model must keep images along the first dimension of every measured output; "
                    f"layer {tap.layer.name!r} gave one of shape {tuple(call.output.shape)} for "
                    f"{n} images. Leave this layer out by passing layers=[...]."
                )


class _AfterActivation(TorchFunctionMode):
    """Keeps what an activation makes of an announced output."""

    def __init__(self, keep: Callable[[Place, Tensor], Tensor]) -> None:
        super().__init__()
        self._keep = keep
        self._expected: list[_Kept] = []

    def forget(self) -> None:
        """Expect nothing any more."""
        self._expected = []

    def expect(self, place: Place, output: Tensor) -> Tensor:
        """Announce an output that an activation will receive, and return it."""
        self._expected.append(_Kept(place, output, output._version))
        return output

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: object,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        owners = []
        if func in ACTIVATIONS and args and isinstance(args[0], Tensor):
            owners = [kept for kept in self._expected if _is(args[0], kept)]
        result = func(*args, **(kwargs or {}))
        for owner in owners:
            self._expected.remove(owner)
            result = self._keep(owner.place, result)
        return result


def _in_turn(chain: Sequence[Callable[[Tensor], Tensor]]) -> Callable[[Tensor], Tensor]:
    def act(output: Tensor) -> Tensor:
        for step in chain:
            output = step(output)
        return output

    return act


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
