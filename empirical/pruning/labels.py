"""Which channels a forward pass ties together: labels that travel with the tensors.

Every channel of a layer, of a norm and of a bare parameter is an *atom*, a number. While an example
runs, a tensor of the shape of each activation says which atom every element belongs to (0: none).
An operation that moves elements moves their labels, by the operation itself, so that flattening,
stacking, rolling and slicing need no rules of their own; elementwise operations tie the labels
that meet; layers read the labels of their inputs and start new ones. Whatever else an operation
does with a channel *freezes* it, with the reason. Rules: `label_rules.py`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Set
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from empirical.pruning.macs import COUNTED

Indices = NDArray[np.int64]
Role = Literal["out", "in", "through"]
Key = tuple[str, Role]
"""A module (or bare parameter) and the side on which it has the channels."""

PARAMETERS = 2**30
"""Atoms of bare parameters start here: of two labels that meet, the smaller one goes on."""


Rule = Callable[["Labelling", Any, tuple[Any, ...], dict[str, Any]], Any]
"""Runs an operation, gives its results their labels, and returns the results."""


@dataclass
class Atoms:
    """All atoms, the ties between them, and which are frozen and why.

    `read` names parameters and buffers that something else than their own layer read.
    """

    starts: dict[Key, int] = field(default_factory=dict)
    counts: dict[Key, int] = field(default_factory=dict)
    frozen: list[tuple[Indices, str]] = field(default_factory=list)
    read: set[str] = field(default_factory=set)
    _ties: list[Indices] = field(default_factory=list)
    _next: int = 1
    _next_parameter: int = PARAMETERS

    def of(self, key: Key, count: int, *, parameter: bool = False) -> Indices:
        """The `count` atoms of `key`, made when first asked for."""
        if key not in self.starts:
            self.counts[key] = count
            if parameter:
                self.starts[key], self._next_parameter = (
                    self._next_parameter,
                    self._next_parameter + count,
                )
            else:
                self.starts[key], self._next = self._next, self._next + count
        found: Indices = self.starts[key] + np.arange(self.counts[key], dtype=np.int64)
        return found

    def single(self, reason: str) -> int:
        """A new atom that is frozen from the start."""
        atom = self.of((f"frozen {len(self.frozen)}", "through"), 1)
        self.frozen.append((atom, reason))
        return int(atom[0])

    def tie(self, some: Indices, others: Indices) -> None:
        """Tie atoms pairwise; pairs with a 0 say nothing."""
        both = np.stack([some, others])[:, (some > 0) & (others > 0)]
        self._ties.append(both)

    def freeze(self, labels: Indices, reason: str) -> None:
        """Keep these atoms whole."""
        found = labels[labels > 0]
        if len(found):
            self.frozen.append((found, reason))

    def components(self) -> tuple[dict[Key, Indices], dict[int, str]]:
        """Number of the component of each key's atoms, and the frozen components' reasons."""
        keys = sorted(self.starts, key=self.starts.__getitem__)
        starts = np.array([self.starts[key] for key in keys])
        offsets = np.cumsum([0] + [self.counts[key] for key in keys])

        def dense(atoms: Indices) -> Indices:
            owner = np.searchsorted(starts, atoms, side="right") - 1
            return np.asarray(offsets[owner] + atoms - starts[owner])

        ties = dense(np.concatenate([np.zeros((2, 0), dtype=np.int64), *self._ties], axis=1))
        size = int(offsets[-1])
        graph = coo_array((np.ones(ties.shape[1]), (ties[0], ties[1])), shape=(size, size))
        component = connected_components(graph, directed=False)[1].astype(np.int64)
        reasons: dict[int, str] = {}
        for atoms, reason in self.frozen:
            for c in np.unique(component[dense(atoms)]).tolist():
                reasons.setdefault(c, reason)
        parts = {k: component[a:b] for k, a, b in zip(keys, offsets, offsets[1:], strict=False)}
        return parts, reasons


class Labelling(TorchDispatchMode):
    """The mode under which an example runs: applies the rule of every operation."""

    def __init__(
        self,
        model: nn.Module,
        stack: list[str],
        rule_of: Callable[[Any], Rule | None],
        depthwise: Set[str],
    ) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.depthwise = depthwise
        self.atoms = Atoms()
        self._rule_of = rule_of
        self.modules: Mapping[str, nn.Module] = dict(model.named_modules())
        self._stack = stack
        self._owned: dict[int, tuple[str, Tensor]] = {}
        named: dict[int, list[str]] = {}
        for name, module in self.modules.items():
            for own, tensor in (*module._parameters.items(), *module._buffers.items()):
                if tensor is not None:
                    full = f"{name}.{own}" if name else own
                    named.setdefault(id(tensor), []).append(full)
                    self._owned.setdefault(id(tensor), (full, tensor))
        self.shared = {key: one_tensor(names) for key, names in named.items() if len(names) > 1}

    @property
    def current(self) -> tuple[str, nn.Module]:
        """Name and module of the innermost forward that runs."""
        name = self._stack[-1] if self._stack else ""
        return name, self.modules[name]

    def name_of(self, tensor: Tensor) -> str | None:
        """Name of a parameter or buffer of the model."""
        return self._owned[id(tensor)][0] if id(tensor) in self._owned else None

    def why_shared(self, *parts: Tensor | None) -> str | None:
        """The reason against cutting a module one of whose parts another one has as well."""
        return next((self.shared[id(part)] for part in parts if id(part) in self.shared), None)

    def labels(self, tensor: Tensor) -> Tensor | None:
        """Labels of a tensor; None where no element has one."""
        known: Tensor | None = getattr(tensor, "_atom_labels", None)
        name = self.name_of(tensor)
        numbers = tensor.is_floating_point() or tensor.dtype is torch.bool  # a mask by channel
        if known is None and name is not None and numbers:
            self.atoms.read.add(name)
            owner, _, own = name.rpartition(".")
            # a layer's weight, of millions of elements, is one atom: it stays whole in any case
            whole = own == "weight" and isinstance(self.modules[owner], COUNTED)
            count = 1 if whole else tensor.numel()
            atoms = self.atoms.of((name, "through"), count, parameter=True)
            known = torch.as_tensor(atoms, dtype=torch.float64, device=tensor.device)
            known = known.expand(tensor.shape) if whole else known.reshape(tensor.shape)
            tensor._atom_labels = known  # type: ignore[attr-defined]
            if whole:
                self.atoms.freeze(atoms, "a layer's weight is read outside of the layer")
            if (shared := self.why_shared(tensor)) is not None:
                self.atoms.freeze(atoms, shared)
        return known

    def freeze_read(self) -> None:
        """Keep whole the layers of PyTorch's whose parameters something else read as well."""
        for name in sorted(self.atoms.read):
            owner, _, own = name.rpartition(".")
            if own in ("weight", "bias", "running_mean", "running_var"):
                for key in ((owner, "out"), (owner, "in"), (owner, "through")):
                    if key in self.atoms.starts:
                        atoms = self.atoms.of(key, self.atoms.counts[key])
                        self.atoms.freeze(atoms, f"{name!r} is read outside of the layer as well")

    def put(self, tensor: Tensor, labels: Tensor) -> None:
        """Give a result its labels, laid out as its elements are, so that views stay views."""
        mine = torch.empty_like(tensor, dtype=torch.float64)
        tensor._atom_labels = mine.copy_(labels.expand(tensor.shape))  # type: ignore[attr-defined]

    def keep(self, tensor: Tensor, labels: Tensor) -> None:
        """Give a result labels that may share memory with another tensor's, as a view does."""
        tensor._atom_labels = labels  # type: ignore[attr-defined]

    def freeze(self, labels: Tensor | None, reason: str) -> None:
        """Keep every atom among `labels` whole."""
        if labels is not None:
            self.atoms.freeze(torch.unique(labels).long().cpu().numpy(), reason)

    def __torch_dispatch__(
        self, func: Any, types: object, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        kwargs = kwargs or {}
        rule = self._rule_of(func)
        if rule is not None:
            return rule(self, func, args, kwargs)
        with self:
            result = func.decompose(*args, **kwargs)
        if result is not NotImplemented:
            return result
        return opaque(self, func, args, kwargs)


def opaque(mode: Labelling, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """An operation of which nothing is known: what it reads and returns stays whole."""
    result = func(*args, **kwargs)
    read = [getattr(t, "_atom_labels", None) for t in tensors((args, kwargs))]
    labelled = [labels for labels in read if labels is not None and bool((labels > 0).any())]
    weights = {n for t in tensors((args, kwargs)) if (n := mode.name_of(t)) is not None}
    mode.atoms.read |= weights
    if labelled or weights:
        reason = why_opaque(mode, func)
        for labels in labelled:
            mode.freeze(labels, reason)
        atom = torch.tensor(float(mode.atoms.single(reason)), dtype=torch.float64)
        for tensor in tensors(result):
            mode.put(tensor, atom)
    return result


def why_opaque(mode: Labelling, func: Any) -> str:
    """The reason that is shown to the user: a module of PyTorch's, or an operation in a forward."""
    name, module = mode.current
    if type(module).__module__.startswith("torch.nn") and not list(module.children()):
        return f"{type(module).__name__} modules cannot be cut"
    operation = func._schema.name.removeprefix("aten::")
    return f"{operation} in {name or 'forward'} ({type(module).__name__}) mixes its channels"


def one_tensor(names: list[str]) -> str:
    """The reason that is shown where parameters or buffers of several names are one."""
    *others, last = map(repr, names)
    return f"{', '.join(others)} and {last} are one tensor; give each its own copy"


def tensors(tree: object) -> list[Tensor]:
    """All tensors in nested arguments or results."""
    return [leaf for leaf in tree_leaves(tree) if isinstance(leaf, Tensor)]
