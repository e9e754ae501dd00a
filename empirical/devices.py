"""Which device to run on, and what to do when its memory is not enough."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from itertools import chain
from typing import TypeVar

import torch
from torch import nn

Result = TypeVar("Result")


def chosen_device(name: str | torch.device) -> torch.device:
    """Return the device called `name`; ``"auto"`` is the first GPU, or the CPU where there is none.

    >>> chosen_device("cpu")
    device(type='cpu')
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except (RuntimeError, TypeError):
        raise ValueError(
            f"device must be 'cpu', 'cuda', a numbered one such as 'cuda:1', or 'auto'; got "
            f"{name!r}."
        ) from None
    if device.type == "cuda" and not torch.cuda.is_available():
        raise ValueError(f"device {name!r} is not available: torch sees no CUDA device. Use 'cpu'.")
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise ValueError(
            f"device {name!r} is not available: torch sees {torch.cuda.device_count()} CUDA "
            "devices, counted from 0."
        )
    return device


def placed(model: nn.Module, device: str | torch.device | None) -> torch.device:
    """Move `model` to `device`, if one is named, and return where it is.

    >>> placed(nn.Linear(1, 1), "cpu"), placed(nn.Linear(1, 1), None)
    (device(type='cpu'), device(type='cpu'))
    """
    if device is None:
        return device_of(model)
    place = chosen_device(device)
    model.to(place)
    return place


def device_of(model: nn.Module) -> torch.device:
    """Return where a model's parameters or buffers are; the CPU if it has none.

    >>> device_of(nn.ReLU())
    device(type='cpu')
    """
    anything = next(chain(model.parameters(), model.buffers()), None)
    return torch.device("cpu") if anything is None else anything.device


def queued(device: torch.device) -> bool:
    """Return whether operations wait in a queue, for all of which whoever reads a value waits.

    >>> queued(torch.device("cpu"))
    False
    """
    return device.type != "cpu"


def has_bfloat16(device: torch.device) -> bool:
    """Return whether a device has units for products of bfloat16 matrices."""
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    return device.type == "cpu" and bool(torch.cpu._is_amx_tile_supported())


@contextmanager
def full_precision() -> Iterator[None]:
    """Switch TF32 off on GPUs: its three digits are too few for sums and for small damages.

    >>> with full_precision():
    ...     torch.backends.cuda.matmul.allow_tf32
    False
    """
    convolutions, products = torch.backends.cudnn, torch.backends.cuda.matmul
    before = convolutions.allow_tf32, products.allow_tf32
    convolutions.allow_tf32 = products.allow_tf32 = False
    try:
        yield
    finally:
        convolutions.allow_tf32, products.allow_tf32 = before


@contextmanager
def undisturbed() -> Iterator[None]:
    """Compute in full precision, out of autocast (on CPU and CUDA) and inference mode.

    What autocast lowers or inference mode makes can neither be traced nor trained. Whether
    gradients are kept stays as it is.

    >>> with torch.autocast("cpu"), torch.inference_mode(), undisturbed():
    ...     (torch.ones(2, 2) @ torch.ones(2, 2)).dtype, torch.is_inference_mode_enabled()
    (torch.float32, False)
    """
    with ExitStack() as stack:
        stack.enter_context(full_precision())
        if torch.is_inference_mode_enabled():
            stack.enter_context(torch.inference_mode(False))  # which turns gradients on
            stack.enter_context(torch.no_grad())
        for kind in ("cpu", "cuda"):
            if torch.is_autocast_enabled(kind):
                stack.enter_context(torch.autocast(kind, enabled=False))
        yield


def fits_on(device: torch.device, size: int) -> bool:
    """Return whether `size` bytes take at most a third of what is free on a CUDA device."""
    return device.type == "cuda" and size <= torch.cuda.mem_get_info(device)[0] / 3


def room(device: torch.device, on_host: int) -> int:
    """Return half of the bytes that are free on a CUDA device; elsewhere `on_host`.

    >>> room(torch.device("cpu"), 1000)
    1000
    """
    return torch.cuda.mem_get_info(device)[0] // 2 if device.type == "cuda" else on_host


def halving_batches(function: Callable[[int], Result], batch_size: int) -> Result:
    """Return ``function(batch_size)``, with half the size as long as the device's memory is short.

    >>> def fits_four(size):
    ...     if size > 4:
    ...         raise torch.OutOfMemoryError
    ...     return size
    >>> with warnings.catch_warnings(action="ignore"):
    ...     halving_batches(fits_four, 16)
    4
    """
    while True:
        try:
            return function(batch_size)
        except torch.OutOfMemoryError:
            if batch_size <= 1:
                raise
        batch_size //= 2
        torch.cuda.empty_cache()
        warnings.warn(
            f"out of device memory: continuing with batch_size {batch_size}, half as many images "
            "at a time. The result is the same.",
            stacklevel=2,
        )
