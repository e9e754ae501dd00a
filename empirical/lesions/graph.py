"""A model as a graph of operations, of which any part can be run again.

Tracing is `torch.fx`'s. The graph here is a copy free of in-place operations: values computed once
for the intact network are read by many lesions.
"""

from __future__ import annotations

import copy
import inspect
import operator
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.fx.node import map_arg

TRACING_ERRORS = (
    fx.proxy.TraceError,
    TypeError,
    ValueError,
    RuntimeError,
    AttributeError,
    IndexError,
    KeyError,
    NotImplementedError,
)
"""What Python code raises when it meets a symbolic value, or a batch of another size."""


class UntraceableError(Exception):
    """The model cannot be run in parts; its text says why."""


class Program:
    """The traced graph of a model in evaluation mode; reads weights from the model itself.

    Parameters
    ----------
    model : in evaluation mode. It is neither changed nor copied.

    Raises
    ------
    UntraceableError
        The forward pass branches on values, or changes a tensor by assignment.

    Examples
    --------
    >>> program = Program(nn.Sequential(nn.Linear(2, 3), nn.ReLU(inplace=True)).eval())
    >>> [node.op for node in program.nodes]
    ['placeholder', 'call_module', 'call_module', 'output']
    >>> program.run(torch.zeros(1, 2))[program.result].shape
    torch.Size([1, 3])
    """

    def __init__(self, model: nn.Module) -> None:
        try:
            graph = fx.Tracer().trace(model, concrete_args=_defaults(model) or None)
        except TRACING_ERRORS as error:
            text = str(error).split("\n")[0]
            raise UntraceableError(f"torch.fx cannot trace it ({text})") from error
        self.model = model
        self.nodes: list[fx.Node] = _without_defaults(graph, set(_defaults(model)))
        self.graph = graph  # nodes hold no reference to it that keeps it alive
        self.modules = {name: _out_of_place(module) for name, module in model.named_modules()}
        for node in self.nodes:
            _make_out_of_place(node)
        inputs = [node for node in self.nodes if node.op == "placeholder"]
        outputs = [node for node in self.nodes if node.op == "output"]
        used = [node for node in inputs if node.users or node is inputs[0]]
        if len(used) != 1 or not isinstance(outputs[0].args[0], fx.Node):
            raise UntraceableError("its forward pass takes or returns more than one tensor")
        self.input, self.result = used[0], outputs[0].args[0]

    def run(
        self, images: Tensor, edits: Mapping[fx.Node, Callable[[Tensor], Tensor]] | None = None
    ) -> dict[fx.Node, Any]:
        """Return the value of every node on `images`, with some values edited on the way."""
        changes = edits or {}
        values: dict[fx.Node, Any] = {self.input: images}
        for node in self.nodes:
            if node.op not in ("placeholder", "output"):
                value = self.call(node, values.__getitem__)
                values[node] = changes[node](value) if node in changes else value
        return values

    def call(self, node: fx.Node, value_of: Callable[[fx.Node], Any]) -> Any:
        """Return what `node` computes from the values of the nodes that it reads."""
        if node.op == "get_attr":
            return operator.attrgetter(str(node.target))(self.model)
        args = map_arg(node.args, value_of)
        kwargs = map_arg(node.kwargs, value_of)
        if node.op == "call_module":
            return self.modules[str(node.target)](*args, **kwargs)
        if node.op == "call_method":
            return getattr(args[0], str(node.target))(*args[1:], **kwargs)
        return node.target(*args, **kwargs)  # type: ignore[operator]

    def module_of(self, node: fx.Node) -> nn.Module | None:
        """Return the module that a node calls, None where it calls none."""
        return self.modules[str(node.target)] if node.op == "call_module" else None

    def node_of(self, module: str) -> fx.Node:
        """Return the only node that calls `module`, by dotted name.

        Raises
        ------
        UntraceableError
            It is called several times, or inside a module that torch.fx does not look into.
        """
        found = [n for n in self.nodes if n.op == "call_module" and n.target == module]
        if len(found) != 1:
            raise UntraceableError(f"{module!r} is called {len(found)} times in the traced graph")
        return found[0]

    def after(self, node: fx.Node) -> list[fx.Node]:
        """Return the nodes that depend on `node`, in order, without it and the output node."""
        reached = {node}
        for other in self.nodes:
            if not reached.isdisjoint(other.all_input_nodes):
                reached.add(other)
        return [n for n in self.nodes if n in reached and n is not node and n.op != "output"]

    def before(self, node: fx.Node) -> set[fx.Node]:
        """Return the nodes that `node` depends on, and itself."""
        needed = {node}
        for other in reversed(self.nodes):
            if other in needed:
                needed.update(other.all_input_nodes)
        return needed


def _defaults(model: nn.Module) -> dict[str, Any]:
    """Return what a forward pass takes besides the images, each with its default."""
    parameters = list(inspect.signature(model.forward).parameters.values())[1:]
    return {p.name: p.default for p in parameters if p.default is not inspect.Parameter.empty}


def _without_defaults(graph: fx.Graph, names: set[str]) -> list[fx.Node]:
    """Return the nodes less those that only check that a default is what it was at tracing."""
    checks: set[fx.Node] = set()
    kept = []
    for node in graph.nodes:
        default = node.op == "placeholder" and str(node.target).rpartition("_")[0] in names
        if default or not checks.isdisjoint(node.all_input_nodes):
            checks.add(node)
        else:
            kept.append(node)
    return kept


def _out_of_place(module: nn.Module) -> nn.Module:
    """Return the module, or a twin on the same parameters where the module works in place."""
    if not getattr(module, "inplace", False):
        return module
    twin = copy.copy(module)
    twin.inplace = False  # type: ignore[assignment]
    return twin


def _make_out_of_place(node: fx.Node) -> None:
    if node.op == "call_method" and _is_in_place(str(node.target)):
        node.target = str(node.target)[:-1]
    if node.op == "call_method" and node.target == "view":
        node.target = "reshape"  # the same values, whatever the memory layout
    if node.op != "call_function":
        return
    name = getattr(node.target, "__name__", "")
    if node.target in (operator.setitem, operator.delitem):
        raise UntraceableError("its forward pass assigns to parts of a tensor")
    if name.startswith("i") and getattr(operator, name, None) is node.target:
        pure = getattr(operator, name[1:], None)
        if pure is not None:  # iadd -> add; operator.index and the like have no such twin
            node.target = pure
    elif _is_in_place(name) and hasattr(torch, name[:-1]):
        node.target = getattr(torch, name[:-1])
    elif "inplace" in node.kwargs or len(node.args) > 1:
        _clear_inplace_argument(node)


def _is_in_place(name: str) -> bool:
    return name.endswith("_") and not name.endswith("__")


def _clear_inplace_argument(node: fx.Node) -> None:
    try:
        bound = inspect.signature(node.target).bind(*node.args, **node.kwargs)  # type: ignore[arg-type]
    except (ValueError, TypeError):
        return  # built-in functions have no signature, and no `inplace` argument either
    if "inplace" in bound.arguments:
        bound.arguments["inplace"] = False
        node.args, node.kwargs = bound.args, bound.kwargs
