"""The front door: the command line, and the public names of the three packages in one place."""

from __future__ import annotations

import importlib
import sys
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Annotated

import typer
import typer.core

if TYPE_CHECKING:
    from empirical import *  # noqa: F403
    from sim import *  # noqa: F403
    from sim.experiments import Separation
    from theory import *  # noqa: F403

    app: typer.Typer
    __version__: str


class _Commands(typer.core.TyperGroup):
    """Commands whose errors about an option say what its value was."""

    def invoke(self, ctx: typer.Context) -> object:
        """Run the command that the words name."""
        words = list(ctx.args)
        try:
            return super().invoke(ctx)
        except Exception as error:
            options = getattr(getattr(error, "param", None), "opts", [])
            given = [_value_of(option, words) for option in options]
            if options and (value := next((v for v in given if v is not None), None)) is not None:
                error.message = f"{error.message}; got {value!r}."  # type: ignore[attr-defined]
            raise


def _value_of(option: str, words: list[str]) -> str | None:
    """Return the last value that an option has among the words of a command line."""
    value = None
    for word, following in zip(words, [*words[1:], ""], strict=True):
        if word == option:
            value = following
        elif word.startswith(f"{option}="):
            value = word.removeprefix(f"{option}=")
    return value


_PACKAGES = ("theory", "sim", "empirical")

INTERRUPTED = 130
"""The shell's exit code of what Ctrl-C ended."""


def __getattr__(name: str) -> object:
    """Public names of `theory`, `sim` and `empirical`, the version, and the command line."""
    if name == "app":
        return globals().setdefault(name, _command_line())
    if name == "__version__":
        return importlib.import_module("importlib.metadata").version("twoaxis")
    if not name.startswith("_"):
        for package in _packages():
            if name in package.__all__:
                return globals().setdefault(name, getattr(package, name))
    raise AttributeError(f"module 'twoaxis' has no attribute {name!r}")


def __dir__() -> list[str]:
    public = [name for package in _packages() for name in package.__all__]
    return sorted([*public, "app", "main", "__version__"])


def _packages() -> list[ModuleType]:
    """Return the three packages, or say which file stands in the place of one."""
    for name in _PACKAGES:
        spec, own = find_spec(name), Path(__file__).resolve().parent / name / "__init__.py"
        found = "nothing" if spec is None else spec.origin or spec.name
        if Path(found).resolve() != own:
            raise ImportError(
                f"{name} must be twoaxis's own package {own.parent}; {found} shadows it. Rename "
                "that file or folder, or start Python in another one."
            )
    return [importlib.import_module(name) for name in _PACKAGES]


def _command_line() -> typer.Typer:
    """Every command; what they compute with is imported when one runs."""
    _packages()
    from empirical.commands import compare, explain, lesion, measure, merge, prune, report, run
    from sim.cli import app as simulations
    from theory.cli import app as theory_commands

    line = typer.Typer(
        name="twoaxis",
        cls=_Commands,
        no_args_is_help=True,
        add_completion=False,
        pretty_exceptions_enable=False,
        rich_markup_mode=None,  # panels would double the time of --help
        callback=_options,
        help="The two axes of channel information: theory, simulation and measurement.",
    )
    line.command("demo")(_demo)
    line.add_typer(theory_commands, name="theory")
    line.add_typer(simulations, name="sim")
    rooms = (run, measure, explain, compare, lesion, merge, prune, report)
    for command in (getattr(room, room.__name__.rpartition(".")[2]) for room in rooms):
        line.command()(command)
    return line


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"twoaxis {__getattr__('__version__')}")
        raise typer.Exit


def _options(
    version: Annotated[
        bool,
        typer.Option(
            "--version", callback=_print_version, is_eager=True, help="Print the version."
        ),
    ] = False,
) -> None:
    pass


def _demo(
    out: Annotated[Path, typer.Option(help="Folder to write to.")] = Path("runs/demo"),
    data: Annotated[
        str, typer.Option(help="photographs, or digits as a contrast.")
    ] = "photographs",
    seeds: Annotated[int, typer.Option(min=1, help="How many networks to train.")] = 10,
    small: Annotated[bool, typer.Option(help="A minimal version, to see that it works.")] = False,
) -> None:
    """Train, measure, lesion and prune small networks."""
    from empirical.commands.demo import run_demo

    def simulation() -> Separation:
        from sim.experiments.separation import quick, separate

        tiny = {"width": 32, "dimension": 8, "seeds": 3, "steps": 500, "records": 6}
        return separate(**tiny) if small else quick()

    run_demo(out, data=data, seeds=seeds, small=small, simulation=simulation)


def _of_the_user() -> tuple[type[Exception], ...]:
    """Errors that are one line; others are ours, and their traceback is wanted."""
    tasks = sys.modules.get("theory.shared.tasks")  # where it is not loaded, no task has failed
    own = (tasks.TasksFailedError,) if tasks else ()
    return (ValueError, TypeError, OSError, ImportError, MemoryError, *own)


def main() -> None:
    """Run the command line; an error of the user is one line that names the remedy."""
    try:
        _command_line()()
    except _of_the_user() as error:
        typer.echo(f"twoaxis: {error}", err=True)
        sys.exit(2)
    except SystemExit as end:
        if end.code == INTERRUPTED:
            typer.echo("\nInterrupted. Every file that was written is whole.", err=True)
        raise


if __name__ == "__main__":
    main()
