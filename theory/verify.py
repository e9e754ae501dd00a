"""Runs every check of the catalogue: derivation, 50 digits, oracle."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np

from theory.formulas import catalogue
from theory.formulas.closed_form import ClosedForm
from theory.shared.validation import count, instance

PRECISE = 1e-10
"""Largest relative deviation of the float64 value from 50 digits: well-conditioned points lose
up to six of sixteen digits in an inverse."""
MOST_POINTS = 10_000
"""Random points per form: minutes, and no more is learned from further ones."""
ABSOLUTE = 1e-12
"""Deviation below which a value that is exactly zero counts as such."""


@dataclass(frozen=True)
class Verdict:
    """Outcome of all checks of one closed form.

    Attributes
    ----------
    name, item : which closed form.
    proof : status of its derivation.
    digits_error : largest deviation of the float64 value from 50 digits, over `PRECISE`.
    oracle_error : largest deviation from the oracle, over its tolerance.
    seconds : time that the checks took.
    problems : what failed, in words; empty if all passed.
    """

    name: str
    item: str
    proof: str
    digits_error: float
    oracle_error: float
    seconds: float
    problems: tuple[str, ...]

    @property
    def passed(self) -> bool:
        """Whether nothing failed."""
        return not self.problems


def _deviation(value: object, reference: object, tolerance: float) -> float:
    """max|value − reference| over tolerance × max|reference|, with an absolute floor."""
    got, wanted = np.asarray(value, dtype=float), np.asarray(reference, dtype=float)
    if got.shape != wanted.shape or not (np.isfinite(got).all() and np.isfinite(wanted).all()):
        return float("inf")
    scale = max(float(np.abs(wanted).max()), ABSOLUTE / tolerance)
    return float(np.abs(got - wanted).max()) / (tolerance * scale)


def _sampling_deviation(value: object, estimate: object, error: object) -> float:
    """Largest |value − estimate| in standard errors; infinite unless all are finite, errors > 0."""
    got, found, spread = (np.asarray(x, dtype=float) for x in (value, estimate, error))
    decided = got.shape == found.shape and all(np.isfinite(x).all() for x in (got, found, spread))
    if not decided or not (spread > 0).all():
        return float("inf")
    return float(np.max(np.abs(got - found) / spread))


def verify_form(form: ClosedForm, *, points: int = 3, seed: int = 0) -> Verdict:
    """Check one closed form: sympy's derivation, float64 against 50 digits, then the oracle.

    Parameters
    ----------
    form : the closed form.
    points : number of random points of its domain.
    seed : of the random points.

    >>> from theory import catalogue
    >>> verify_form(catalogue()["task_information"]).problems
    ()
    """
    instance("form", form, ClosedForm, "Take one from catalogue().")
    count("points", points, most=MOST_POINTS)
    count("seed", seed, least=0)
    begin = time.perf_counter()
    problems: list[str] = []
    proof = form.derive(form.expr)
    if proof.status in ("undecided", "refuted"):
        failed = [s.claim for s in proof.steps if s.holds is not True]
        problems.append(f"derivation {proof.status}: {'; '.join(failed) or 'no steps'}")
    rng = np.random.default_rng([seed, sum(form.name.encode())])
    digits = oracle = 0.0
    for _ in range(points):
        values = form.point(rng)
        numeric = form.numeric(**values)
        digits = max(digits, _deviation(numeric, form.exact(values), PRECISE))
        reference = form.oracle.function(**values)
        if form.oracle.sampling:
            gap = _sampling_deviation(numeric, *reference)
            oracle = max(oracle, gap / form.oracle.tolerance)
        else:
            oracle = max(oracle, _deviation(numeric, reference, form.oracle.tolerance))
    if not digits <= 1:
        problems.append(f"float64 is {digits:.3g} × the tolerance {PRECISE:g} away from 50 digits")
    if not oracle <= 1:
        problems.append(f"the oracle ({form.oracle.route}) is {oracle:.3g} × its tolerance away")
    seconds = time.perf_counter() - begin
    return Verdict(form.name, form.item, proof.status, digits, oracle, seconds, tuple(problems))


def verify_catalogue(
    forms: Iterable[ClosedForm] | None = None,
    *,
    points: int = 3,
    seed: int = 0,
    progress: Callable[[Verdict], None] | None = None,
) -> list[Verdict]:
    """Check closed forms one after the other; all of the catalogue by default.

    Parameters
    ----------
    forms : which ones.
    points : random points per form.
    seed : of the random points.
    progress : called with each verdict as it is reached.

    >>> [v.passed for v in verify_catalogue([catalogue()["peer_information"]])]
    [True]
    """
    chosen = catalogue().values() if forms is None else forms
    instance("forms", chosen, Iterable, "Pass a list of closed forms of catalogue().")
    verdicts = []
    for form in chosen:
        instance("forms", form, ClosedForm, "Take each from catalogue().")
        verdict = verify_form(form, points=points, seed=seed)
        verdicts.append(verdict)
        if progress is not None:
            progress(verdict)
    return verdicts
