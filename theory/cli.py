"""`twoaxis theory`: the quantities of a channel, and the closed forms behind them. In nats."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from theory.verify import Verdict

ITEMS = {
    "T1": "information of channels with input, peers and target",
    "T2": "gradients of the two axes",
    "T3": "coupling at random initialization",
    "T4": "residualized-gradient dynamics",
    "T5": "lesion identities",
    "T6": "sampling theory",
    "T7": "the local axis at random initialization",
    "T8": "the law of damage",
}

app = typer.Typer(
    help="Closed forms, each derived by sympy and checked by another route.",
    no_args_is_help=False,
)


@app.callback(invoke_without_command=True)
def _default(context: typer.Context) -> None:
    """Closed forms, each derived by sympy and checked by another route."""
    if context.invoked_subcommand is None:
        list_forms()


@app.command("list")
def list_forms() -> None:
    """List the catalogue, item by item."""
    from rich.console import Console
    from rich.table import Table

    from theory.formulas import catalogue

    forms = list(catalogue().values())
    for item, subject in ITEMS.items():
        own = [form for form in forms if form.item == item]
        table = Table(title=f"{item} · {subject} ({len(own)})", title_justify="left")
        table.add_column("name", no_wrap=True)
        table.add_column("what")
        table.add_column("oracle")
        for form in own:
            table.add_row(form.name, form.title, form.oracle.route)
        Console().print(table)
    typer.echo(f"{len(forms)} closed forms. `twoaxis theory show NAME` prints one.")


@app.command()
def quantities() -> None:
    """List what is measured of each channel, in a sentence each."""
    from rich.console import Console
    from rich.table import Table

    from theory.quantity import quantities as measured

    asked = {
        "local": "could peers of its layer supply what the channel carries?",
        "target": "what does the channel say about the target?",
    }
    for axis, question in asked.items():
        table = Table(title=f"{axis} axis: {question}", title_justify="left", show_lines=True)
        table.add_column("quantity", no_wrap=True)
        table.add_column("unit and range")
        table.add_column("what it is, and what a channel is where it is larger")
        for q in measured().values():
            if q.axis == axis:
                meaning = f"{q.sentence} Larger: {q.direction}."
                table.add_row(q.name, f"{q.unit}, {q.range}", meaning)
        Console().print(table)


@app.command()
def show(name: Annotated[str, typer.Argument(help="A name that `list` prints.")]) -> None:
    """Print one closed form: formula, derivation and source."""
    from theory.formulas import find_closed_form
    from theory.formulas._expression import plain
    from theory.formulas.closed_form import DEFINITION

    form = find_closed_form(name)
    proof = form.derive(form.expr)
    typer.echo(f"{form.name} ({form.item})\n{form.title}\n")
    typer.echo(f"formula      {plain(form.expr)}")
    typer.echo(f"LaTeX        {form.latex}")
    typer.echo(f"symbols      {'; '.join(form.assumptions)}")
    typer.echo(f"domain       {form.domain}")
    typer.echo(f"source       {form.source}")
    typer.echo(f"oracle       {form.oracle.route}")
    typer.echo(f"derivation   {proof.status}, by sympy:")
    if proof.rests_on not in ("", DEFINITION):
        typer.echo(f"  rests on {proof.rests_on}")
    words = {True: "holds", False: "REFUTED", None: "UNDECIDED"}
    for step in proof.steps:
        scope = "in general" if step.general else "in this case"
        typer.echo(f"  - {step.claim}: {words[step.holds]} {scope}")


@app.command()
def verify(
    points: Annotated[int, typer.Option(min=1, help="Random points per closed form.")] = 3,
    seed: Annotated[int, typer.Option(help="Of the random points.")] = 0,
    only: Annotated[str, typer.Option(help="One item (T1 to T8) or one name.")] = "",
) -> None:
    """Run every derivation and check; exit 1 if anything fails.

    Each form is compared with 50 digits, and with its oracle.
    """
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    from theory.formulas import catalogue, find_closed_form
    from theory.verify import verify_catalogue

    if only in ITEMS:
        chosen = [form for form in catalogue().values() if form.item == only]
    else:
        chosen = [find_closed_form(only)] if only else list(catalogue().values())
    columns = (TextColumn("{task.description:32}"), BarColumn(), MofNCompleteColumn())
    with Progress(*columns, TimeElapsedColumn()) as bar:
        task = bar.add_task("verifying", total=len(chosen))
        verdicts = verify_catalogue(
            chosen,
            points=points,
            seed=seed,
            progress=lambda v: bar.update(task, advance=1, description=v.name),
        )
    _print_verdicts(verdicts)
    if not all(verdict.passed for verdict in verdicts):
        raise typer.Exit(1)


def _print_verdicts(verdicts: list[Verdict]) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table("item", "name", "derivation", "50 digits", "oracle", "seconds", "result")
    for v in verdicts:
        result = "ok" if v.passed else "; ".join(v.problems)
        errors = (f"{v.digits_error:.1e}", f"{v.oracle_error:.1e}", f"{v.seconds:.2f}")
        table.add_row(v.item, v.name, v.proof, *errors, result)
    Console().print(table)
    typer.echo(
        "Errors are fractions of their tolerance: 1e-10 for 50 digits, and each oracle's own."
    )
    status = Counter(v.proof for v in verdicts)
    passed = sum(v.passed for v in verdicts)
    counts = ", ".join(f"{count} {name}" for name, count in status.items())
    total = sum(v.seconds for v in verdicts)
    typer.echo(f"{passed} of {len(verdicts)} passed in {total:.0f} s; derivations: {counts}.")


@app.command()
def latex(
    out: Annotated[
        Path | None, typer.Option(help="File to write; standard output if absent.")
    ] = None,
) -> None:
    """Write the catalogue as a LaTeX section."""
    from theory.shared.files import write_text

    text = section()
    if out is None:
        typer.echo(text)
    else:
        write_text(out, text)
        typer.echo(f"wrote {out}")


def section() -> str:
    """The catalogue as a LaTeX section, one subsection per item; needs amsmath and amssymb."""
    from theory.formulas import catalogue

    lines = [r"\section{Closed forms of the two axes}", ""]
    for item, subject in ITEMS.items():
        lines += [rf"\subsection{{{item}: {subject}}}", ""]
        for form in catalogue().values():
            if form.item == item:
                lines += [
                    rf"\paragraph{{{form.name.replace('_', ' ')}.}} {_escaped(form.title)}",
                    r"\begin{equation}",
                    rf"  {form.latex}",
                    r"\end{equation}",
                    rf"Domain: {_escaped(form.domain)}. Source: {_escaped(form.source)}.",
                    "",
                ]
    return "\n".join(lines)


_MATH = {
    "Σ": r"\Sigma", "σ": r"\sigma", "τ": r"\tau", "λ": r"\lambda", "γ": r"\gamma", "κ": r"\kappa",
    "δ": r"\delta", "θ": r"\theta", "β": r"\beta", "ρ": r"\rho", "ε": r"\varepsilon",
    "μ": r"\mu", "∝": r"\propto", "≥": r"\ge", "≤": r"\le", "≠": r"\ne", "‖": r"\|", "²": "^2",
    "⁻": "^-", "¹": "1", "ᵀ": "^T", "∇": r"\nabla", "∫": r"\int", "∞": r"\infty", "₀": "_0",
    "→": r"\to", "−": "-", "½": r"\tfrac12", "·": r"\cdot", "Δ": r"\Delta", "₋": "_-",
    "√": r"\surd", "∘": r"\circ", "∂": r"\partial", "η": r"\eta", "⟂": r"\perp", "₊": "_+",
    "Λ": r"\Lambda", "ν": r"\nu", "χ": r"\chi",
}  # fmt: skip


def _escaped(words: str) -> str:
    """Words with their symbols as LaTeX math."""
    special = {"_": r"\_", "%": r"\%", "&": r"\&", "#": r"\#", "^": r"\^{}"}
    parts = [f"\\ensuremath{{{_MATH[c]}}}" if c in _MATH else special.get(c, c) for c in words]
    text = "".join(parts).replace(r"\ensuremath{^-}\ensuremath{1}", r"\ensuremath{^{-1}}")
    for broken, whole in (("±", r"\ensuremath{\pm}"), ("Î", r"\ensuremath{\hat I}")):
        text = text.replace(broken, whole)
    return text
