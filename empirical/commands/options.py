"""Options of the command line, each declared once: groups of them are dataclasses.

A command takes a group as one parameter, and `spread` shows the group's fields as options:

    @spread
    def measure(source: NetworkSource, *, images: Annotated[int, typer.Option(...)] = 5000) -> None
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import fields, is_dataclass
from inspect import Parameter, Signature
from typing import Any, get_type_hints

import typer

DATA = typer.Option(
    help="digits, photographs, cifar10, cifar100, or a folder with train/<class>/* and "
    "test/<class>/*."
)
TARGET = typer.Option(help="logit_margin, true_logit, logit_pc1 or label.")
DEVICE = typer.Option(help="cpu, cuda, cuda:1, or auto (a GPU if there is one).")
DOWNLOAD = typer.Option(help="Let torchvision download CIFAR into the data root.")
CACHE = typer.Option(help="Where decoded images are kept (default: ~/.cache/twoaxis).")


def spread(command: Callable[..., None]) -> Callable[..., None]:
    """Return `command` with each parameter that is a dataclass replaced by the fields of it.

    Parameters
    ----------
    command : annotated function; the fields are annotated with ``typer.Option`` and have defaults.

    Examples
    --------
    >>> from dataclasses import dataclass
    >>> @dataclass
    ... class Size:
    ...     width: int = 2
    >>> @spread
    ... def area(size: Size, *, height: int = 3) -> None:
    ...     print(size.width * height)
    >>> list(inspect.signature(area).parameters)
    ['width', 'height']
    >>> area(width=5)
    15
    """
    groups: dict[str, type[Any]] = {}
    options: list[Parameter] = []
    hints = get_type_hints(command, include_extras=True)
    for name, parameter in inspect.signature(command).parameters.items():
        if is_dataclass(kind := hints[name]) and isinstance(kind, type):
            groups[name] = kind
            inner = get_type_hints(kind, include_extras=True)
            options += [_option(item.name, inner[item.name], item.default) for item in fields(kind)]
        else:
            options.append(_option(name, hints[name], parameter.default))

    def spread_out(**values: Any) -> None:
        for name, kind in groups.items():
            own = [item.name for item in fields(kind) if item.name in values]
            values[name] = kind(**{key: values.pop(key) for key in own})
        command(**values)

    spread_out.__name__, spread_out.__doc__ = command.__name__, command.__doc__
    spread_out.__module__ = command.__module__
    spread_out.__annotations__ = {option.name: option.annotation for option in options}
    spread_out.__signature__ = Signature(options)  # type: ignore[attr-defined]
    return spread_out


def _option(name: str, hint: object, default: object) -> Parameter:
    return Parameter(name, Parameter.KEYWORD_ONLY, annotation=hint, default=default)
