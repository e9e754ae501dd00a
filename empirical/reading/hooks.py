"""Read or replace the outputs of a model's submodules while it runs.

Both tools are context managers: whatever happens inside the block, the hooks are gone after it.
An edit always runs before a capture of the same module, whichever was entered first, so that a
capture sees what the rest of the network sees.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from theory.shared.validation import functions, instance, one_of

Inputs = tuple[Tensor, ...]
Named = dict[str, Tensor]


def capture(
    model: nn.Module, readers: Mapping[str, Callable[[Tensor], object]]
) -> AbstractContextManager[None]:
    """Call `readers[name]` with the output of submodule `name` at each of its calls.

    Parameters
    ----------
    model : nn.Module
    readers : mapping of dotted submodule name to a function of its output, whose result is ignored

    Raises
    ------
    ValueError
        a name that is no submodule of `model`

    Examples
    --------
    >>> model = nn.Sequential(nn.Linear(3, 5), nn.ReLU())
    >>> shapes = []
    >>> with capture(model, {"0": lambda output: shapes.append(tuple(output.shape))}):
    ...     _ = model(torch.zeros(2, 3))
    >>> shapes
    [(2, 5)]
    """
    functions("readers", readers)
    return capture_calls(model, {name: _of_output(read) for name, read in readers.items()})


def capture_calls(
    model: nn.Module, readers: Mapping[str, Callable[[Tensor, Tensor], object]]
) -> AbstractContextManager[None]:
    """Call `readers[name]` with input and output of submodule `name` at each of its calls.

    Parameters and errors are those of `capture`.

    Examples
    --------
    >>> model = nn.Sequential(nn.Linear(3, 5), nn.ReLU())
    >>> shapes = []
    >>> with capture_calls(model, {"0": lambda x, y: shapes.append((x.shape[1], y.shape[1]))}):
    ...     _ = model(torch.zeros(2, 3))
    >>> shapes
    [(3, 5)]
    """

    def hook(read: Callable[[Tensor, Tensor], object]) -> Callable[..., None]:
        def after(_module: nn.Module, inputs: Inputs, named: Named, output: Tensor) -> None:
            read(_first(inputs, named), output)

        return after

    return _hooked(model, {n: hook(read) for n, read in readers.items()}, "register_forward_hook")


def before_call(
    model: nn.Module, actions: Mapping[str, Callable[[Tensor], object]]
) -> AbstractContextManager[None]:
    """Call `actions[name]` with the input of submodule `name` just before each of its calls.

    An action may change the module's weights: it then computes with the new ones. Parameters and
    errors are those of `capture`.

    Examples
    --------
    >>> model = nn.Sequential(nn.Linear(3, 1, bias=False))
    >>> with before_call(model, {"0": lambda _: nn.init.ones_(model[0].weight)}):
    ...     model(torch.ones(1, 3)).tolist()
    [[3.0]]
    """

    def hook(act: Callable[[Tensor], object]) -> Callable[..., None]:
        def before(_module: nn.Module, inputs: Inputs, named: Named) -> None:
            act(_first(inputs, named))

        return before

    return _hooked(model, {n: hook(a) for n, a in actions.items()}, "register_forward_pre_hook")


@contextmanager
def running(model: nn.Module) -> Iterator[list[str]]:
    """Names of the submodules whose forward runs at the moment, outermost first.

    Examples
    --------
    >>> model = nn.Sequential(nn.Linear(3, 5), nn.ReLU())
    >>> with capture(model, {"1": lambda _: print(names)}), running(model) as names:
    ...     _ = model(torch.zeros(2, 3))
    ['', '1']
    """
    names: list[str] = []
    with ExitStack() as stack:
        for name, module in model.named_modules():

            def enter(_module: nn.Module, _inputs: object, name: str = name) -> None:
                names.append(name)

            def leave(_module: nn.Module, _inputs: object, _output: object) -> None:
                names.pop()

            stack.enter_context(module.register_forward_pre_hook(enter, prepend=True))
            stack.enter_context(module.register_forward_hook(leave, always_call=True))
        yield names


def edit(
    model: nn.Module, editors: Mapping[str, Callable[[Tensor], Tensor]]
) -> AbstractContextManager[None]:
    """Replace the output of submodule `name` by `editors[name](output)` at each of its calls.

    An editor returns a new tensor and leaves its argument alone: other modules may hold it. Where
    two edits of one module are nested, the inner one runs first.

    Parameters
    ----------
    model : nn.Module
    editors : mapping of dotted submodule name to a function from output to output

    Raises
    ------
    ValueError
        a name that is no submodule of `model`

    Examples
    --------
    >>> model = nn.Sequential(nn.Linear(3, 5), nn.ReLU())
    >>> with edit(model, {"0": torch.ones_like}):
    ...     model(torch.zeros(1, 3)).tolist()
    [[1.0, 1.0, 1.0, 1.0, 1.0]]
    """
    functions("editors", editors)

    def hook(change: Callable[[Tensor], Tensor]) -> Callable[..., Tensor]:
        return lambda _module, _inputs, _named, output: change(output)

    hooks = {name: hook(change) for name, change in editors.items()}
    return _hooked(model, hooks, "register_forward_hook", prepend=True)


def edit_inputs(
    model: nn.Module, editors: Mapping[str, Callable[[Tensor], Tensor]]
) -> AbstractContextManager[None]:
    """Replace the input of submodule `name` by `editors[name](input)` at each of its calls.

    An editor returns a new tensor and leaves its argument alone. Parameters and errors are those
    of `edit`.

    Examples
    --------
    >>> model = nn.Sequential(nn.Linear(3, 1, bias=False))
    >>> with edit_inputs(model, {"0": torch.zeros_like}):
    ...     model(torch.ones(1, 3)).tolist()
    [[0.0]]
    """

    def hook(change: Callable[[Tensor], Tensor]) -> Callable[..., tuple[Inputs, Named]]:
        def before(_module: nn.Module, inputs: Inputs, named: Named) -> tuple[Inputs, Named]:
            if inputs:
                return (change(inputs[0]), *inputs[1:]), named
            return inputs, {**named, "input": change(named["input"])}

        return before

    return _hooked(model, {n: hook(c) for n, c in editors.items()}, "register_forward_pre_hook")


@contextmanager
def _hooked(
    model: nn.Module, hooks: Mapping[str, Callable[..., Any]], register: str, **options: bool
) -> Iterator[None]:
    """Hooks of submodules by name, registered by that method, within the block."""
    with ExitStack() as stack:
        for name, hook in hooks.items():
            method = getattr(submodule(model, name), register)
            stack.enter_context(method(hook, with_kwargs=True, **options))
        yield


def _first(inputs: Inputs, named: Named) -> Tensor:
    return inputs[0] if inputs else named["input"]


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """Put `model` in evaluation mode without gradients; restore every submodule's mode after.

    Examples
    --------
    >>> model = nn.Sequential(nn.BatchNorm1d(3).eval(), nn.Dropout())
    >>> with evaluating(model):
    ...     model[1].training
    False
    >>> model[0].training, model[1].training
    (False, True)
    """
    instance("model", model, nn.Module, "Build the network first.")
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        # no_grad rather than inference_mode: a module that caches a tensor in its forward pass
        # must still be trainable afterwards
        with torch.no_grad():
            yield
    finally:
        for module, training in modes:
            module.training = training


def submodule(model: nn.Module, name: str) -> nn.Module:
    """Return the submodule of a dotted name, or say which names are nearest."""
    instance("model", model, nn.Module, "Build the network first.")
    found = module_at(model, name)
    if found is None:
        one_of("name of a submodule", name, dict(model.named_modules()))
        raise AssertionError(name)
    return found


def module_at(model: nn.Module, name: str) -> nn.Module | None:
    """Return the submodule of a dotted name; None where there is none."""
    found: nn.Module | None = model
    for part in name.split(".") if name else ():
        found = found._modules.get(part) if found is not None else None
    return found


def _of_output(read: Callable[[Tensor], object]) -> Callable[[Tensor, Tensor], object]:
    return lambda _input, output: read(output)


def run_on(model: nn.Module, name: str, images: Tensor) -> Tensor:
    """Return what `model` makes of `images`, the argument called `name`, or say why it cannot.

    >>> run_on(nn.Linear(2, 2), "example", torch.zeros(1, 3))
    Traceback (most recent call last):
    ValueError: example must be images that model can read; got shape (1, 3): ...
    """
    instance(name, images, Tensor, "Pass images (n, ...).")
    try:
        found: Tensor = model(images)
    except torch.OutOfMemoryError:
        raise
    except (RuntimeError, ValueError) as error:
        raise ValueError(
            f"{name} must be images that model can read; got shape {tuple(images.shape)}: "
            f"{' '.join(str(error).split())}"
        ) from error
    return found


def altered(module: nn.Module) -> bool:
    """Whether hooks, or a forward of its own, make of a module other than what its type computes.

    Hooks of `torch.nn.utils` compute weights from others, which are read as they are.
    """
    hooks = (*module._forward_pre_hooks.values(), *module._forward_hooks.values())
    foreign = [h for h in hooks if not type(h).__module__.startswith("torch.nn.utils")]
    return bool(foreign) or "forward" in vars(module)
