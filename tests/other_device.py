"""A device that is not there: tensors that say they are on it, computed on the CPU.

Operations refuse operands of both devices as CUDA does, and NumPy refuses theirs. Let through are
what CUDA lets through: copies, numbers (0-dimensional tensors of the CPU) and indices of the CPU.
For a process of its own: torch cannot forget a device.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode, return_and_correct_aliasing
from torch.utils._pytree import tree_iter, tree_map_only
from torch.utils.backend_registration import (
    _DummyBackendModule,
    _setup_privateuseone_for_python_backend,
)

aten = torch.ops.aten
INDEXED = {aten.index, aten.index_put, aten.index_put_, aten._unsafe_index, aten._index_put_impl_}


class _Module(_DummyBackendModule):
    def get_amp_supported_dtype(self) -> list[torch.dtype]:
        return [torch.bfloat16]


NAME = "away"


class Away(Tensor):
    """A tensor on the device."""

    inner: Tensor

    @staticmethod
    def __new__(cls, inner: Tensor) -> Away:
        made = Tensor._make_wrapper_subclass(
            cls,
            inner.shape,
            strides=inner.stride(),
            storage_offset=inner.storage_offset(),
            dtype=inner.dtype,
            device=torch.device(NAME, 0),
            requires_grad=inner.requires_grad,
        )
        made.inner = inner.detach()
        return made

    def __init__(self, inner: Tensor) -> None:
        pass

    def __repr__(self) -> str:
        return f"Away({self.inner})"

    def numpy(self, *, force: bool = False) -> Any:
        raise TypeError("can't convert away:0 device type tensor to numpy. Use .cpu() first.")

    def __array__(self, *_: object, **__: object) -> Any:
        return self.numpy()

    def data_ptr(self) -> int:
        return self.inner.data_ptr()

    def untyped_storage(self) -> Any:
        return self.inner.untyped_storage()

    def tolist(self) -> Any:
        return self.cpu().tolist()

    def __deepcopy__(self, memo: dict[int, Any]) -> Any:
        if id(self) not in memo:
            made = Away(self.inner.clone()).requires_grad_(self.requires_grad)
            if getattr(self, "_is_param", False):
                made._is_param = True  # what makes it an nn.Parameter
            memo[id(self)] = made
        return memo[id(self)]

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return _computed(func, args, kwargs or {})


class _Device(TorchDispatchMode):
    """Makes tensors on the device where one is asked for."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return _computed(func, args, kwargs or {})


def _computed(func: Any, args: Any, kwargs: dict[str, Any]) -> Any:
    op, to = func.overloadpacket, kwargs.get("device")
    away = any(isinstance(x, Away) for x in tree_iter((args, kwargs)))
    if away and op not in (aten.copy_, aten._to_copy):
        met = (args[0], *args[2:]) if op in INDEXED else (args, kwargs)
        here = [x for x in tree_iter(met) if isinstance(x, Tensor) and not isinstance(x, Away)]
        changed = func._schema.is_mutable and not isinstance(args[0], Away | list | tuple)
        if changed or any(x.ndim for x in here):
            raise RuntimeError(f"{func}: Expected all tensors to be on the same device.")
    plain, named = tree_map_only(Away, lambda x: x.inner, (args, kwargs))
    out = func(*plain, **(named | ({} if to is None else {"device": "cpu"})))
    if op is aten.copy_:
        return args[0]
    if not (away if to is None else torch.device(to).type == NAME):
        return out
    out = tree_map_only(Tensor, Away, out)
    return return_and_correct_aliasing(func, args, kwargs, out) if away else out


def _empty(*args: Any, **kwargs: Any) -> Tensor:
    return _computed(aten.empty.memory_format, args, kwargs)


def _empty_strided(*args: Any, **kwargs: Any) -> Tensor:
    return _computed(aten.empty_strided.default, args, kwargs)


def _copied(source: Tensor, into: Tensor, non_blocking: bool = False) -> Tensor:
    one, other = (x.inner if isinstance(x, Away) else x for x in (source, into))
    other.copy_(one)
    return into


@cache
def _registered() -> torch.library.Library:
    """Tell torch of the device: when it is used, since torch cannot forget it."""
    _setup_privateuseone_for_python_backend(NAME, _Module())
    library = torch.library.Library("aten", "IMPL")
    # asked for below the mode, as by torch.tensor(..., device=)
    library.impl("empty.memory_format", _empty, "PrivateUse1")
    library.impl("empty_strided", _empty_strided, "PrivateUse1")
    library.impl("_copy_from", _copied, "PrivateUse1")
    return library


@contextmanager
def other_device() -> Iterator[torch.device]:
    """Let there be the device."""
    _registered()
    torch.__future__.set_overwrite_module_params_on_conversion(True)
    with torch.autograd.set_multithreading_enabled(False), _Device():
        yield torch.device(NAME, 0)
