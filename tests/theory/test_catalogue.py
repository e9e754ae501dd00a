"""The catalogue, entry by entry, and that a wrong formula in it does not pass."""

from __future__ import annotations

import dataclasses
import re
from collections import Counter

import numpy as np
import pytest
import sympy
from typer.testing import CliRunner

from theory import catalogue, cli, verify_form
from theory.formulas._derivation import Derivation, vanishes
from theory.formulas.closed_form import ClosedForm, Oracle, Proof, Step

FORMS = list(catalogue().values())


@pytest.mark.parametrize("form", FORMS, ids=lambda form: form.name)
def test_closed_form(form: ClosedForm) -> None:
    """Derivation, float64 against 50 digits, then the oracle."""
    assert verify_form(form, points=1).problems == ()


def test_size_and_items() -> None:
    items = Counter(form.item for form in FORMS)
    assert len(FORMS) >= 110
    assert sorted(items) == ["T1", "T2", "T3", "T4", "T5", "T6", "T7", "T8"]


@pytest.mark.parametrize("form", FORMS, ids=lambda form: form.name)
def test_every_entry_is_complete(form: ClosedForm) -> None:
    assert form.latex.startswith(form.lhs)
    assert all(isinstance(words, str) for words in (form.source, form.domain, form.title))
    assert form.source
    assert form.domain
    assert form.oracle.route
    assert len(form.assumptions) == len(form.symbols)
    assert set(form.point(np.random.default_rng(0))) == set(form.parameters)


@pytest.mark.parametrize("name", ["task_information", "task_gradient", "replacement"])
def test_a_wrong_formula_is_refuted_by_its_derivation(name: str) -> None:
    form = catalogue()[name]
    wrong = dataclasses.replace(form, expr=form.expr * sympy.Rational(101, 100), stable=None)
    verdict = verify_form(wrong, points=1)
    assert not verdict.passed
    assert verdict.proof == "refuted"
    assert verdict.oracle_error > 1


def test_a_wrong_formula_with_an_agreeable_derivation_is_caught_by_the_oracle() -> None:
    form = catalogue()["damage_ratio"]
    agreeable = Proof((Step("taken on trust", True, True),))
    wrong = dataclasses.replace(form, expr=1 - form.expr, derive=lambda expr: agreeable)
    verdict = verify_form(wrong, points=1)
    assert "the oracle" in verdict.problems[0]


def test_a_wrong_sampled_formula_is_caught() -> None:
    form = catalogue()["initial_coupling"]
    wrong = dataclasses.replace(form, expr=form.expr * 1.05, stable=None)
    assert verify_form(wrong, points=1).oracle_error > 1


def test_a_wrong_numeric_function_is_caught_by_50_digits() -> None:
    form = catalogue()["task_information"]
    rounded = dataclasses.replace(form, stable=lambda rho: round(-0.5 * np.log(1 - rho**2), 6))
    assert any("50 digits" in problem for problem in verify_form(rounded).problems)


def test_an_undecided_derivation_fails() -> None:
    form = dataclasses.replace(catalogue()["damage_ratio"], derive=lambda expr: Proof(()))
    assert verify_form(form).problems[0].startswith("derivation undecided")


def test_nan_fails() -> None:
    form = dataclasses.replace(catalogue()["damage_ratio"], stable=lambda E: float("nan"))
    assert not verify_form(form).passed


def test_vanishes_decides_both_ways() -> None:
    x, f = sympy.Symbol("x", positive=True), sympy.Function("f")
    assert vanishes(sympy.sin(x) ** 2 + sympy.cos(x) ** 2 - 1) is True
    assert vanishes(x - 1) is False
    assert vanishes(f(x)) is None
    assert Derivation().general("open", f(x)).proof().status == "undecided"
    assert Derivation().case("one case", x - x).proof().status == "cases proven"


def test_small_correlations_do_not_cancel() -> None:
    assert catalogue()["task_information"](rho=1e-9) == pytest.approx(5e-19, rel=1e-12)
    assert catalogue()["task_information"](1e-9) == catalogue()["task_information"](rho=1e-9)


def test_wrong_symbols_are_named() -> None:
    with pytest.raises(
        TypeError, match="task_information takes rho; got 0 positional values and r"
    ):
        catalogue()["task_information"](r=0.1)


def run(*args: str) -> str:
    result = CliRunner().invoke(cli.app, list(args))
    assert result.exit_code == 0, result.output
    return result.output


@pytest.mark.parametrize("words", [["show", "task"], ["verify", "--only", "task"]])
def test_a_name_that_is_none_is_told_by_the_nearest_ones(words: list[str]) -> None:
    result = CliRunner().invoke(cli.app, words)
    assert isinstance(result.exception, ValueError)  # of which the command makes one line
    said = str(result.exception)
    assert re.fullmatch(r"name must be one of '\w+', '\w+', '\w+' and \d+ others; got .*", said)
    assert "Did you mean 'task_unique'" in said


def test_list_shows_every_entry() -> None:
    printed = run("list")
    assert all(form.name[:20] in printed for form in FORMS)
    assert all(f"{item} · " in printed for item in cli.ITEMS)


def test_show_prints_formula_derivation_and_source() -> None:
    printed = run("show", "residualized_direction")
    for words in (
        "formula",
        "LaTeX",
        "orthogonal to w, any d: holds in general",
        "source",
        "proven",
    ):
        assert words in printed
    assert "Trace" not in printed


def test_verify_ends_in_a_table_and_a_count() -> None:
    printed = run("verify", "--only", "damage_ratio", "--points", "1")
    assert "1 of 1 passed" in printed


def test_verify_exits_1_on_a_wrong_formula(monkeypatch: pytest.MonkeyPatch) -> None:
    form = catalogue()["damage_ratio"]
    wrong = dataclasses.replace(form, oracle=Oracle("wrong", lambda E: E, 1e-8))
    monkeypatch.setattr("theory.formulas.find_closed_form", lambda name: wrong)
    assert CliRunner().invoke(cli.app, ["verify", "--only", "damage_ratio"]).exit_code == 1


def test_latex_is_ascii_and_complete(tmp_path) -> None:  # type: ignore[no-untyped-def]
    path = tmp_path / "forms.tex"
    run("latex", "--out", str(path))
    text = path.read_text()
    assert text.isascii()
    assert text.count(r"\begin{equation}") == len(FORMS)


@pytest.mark.parametrize(
    ("estimate", "error"),
    [
        (float("nan"), 0.1),
        (0.5, float("nan")),
        (0.5, float("inf")),
        (float("inf"), 1.0),
        (0.5, 0.0),
    ],
)
def test_a_sampling_oracle_that_does_not_decide_fails(estimate: float, error: float) -> None:
    form = catalogue()["damage_ratio"]
    oracle = Oracle("sampling", lambda E: (estimate, error), 5.0, sampling=True)
    undecided = dataclasses.replace(form, oracle=oracle)
    verdict = verify_form(undecided, points=2)
    assert not verdict.passed
    assert verdict.oracle_error == float("inf")


def test_an_oracle_of_nan_fails() -> None:
    oracle = Oracle("quadrature", lambda E: float("nan"), 1e-8)
    undecided = dataclasses.replace(catalogue()["damage_ratio"], oracle=oracle)
    assert verify_form(undecided, points=1).oracle_error == float("inf")
