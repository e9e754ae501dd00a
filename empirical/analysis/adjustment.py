"""Columns that a smooth effect of the controls is made of, as many as a layer's channels afford.

A score and an outcome may bend in a control, or depend on two of them together, in the same way;
what no column follows poses as a relation of the two. So there are polynomials, truncated cubes
between them (regression splines), and products of controls. Polynomials of a low degree are met by
instruments; the further columns are of all images, less what those polynomials say of them, so that
the polynomials, and what instruments make of their errors of measurement, stay as they are.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import combinations_with_replacement
from math import comb

import numpy as np
from scipy.special import ndtri

from theory.shared.validation import Float

STEPS = ((20, 2, 0, 2), (24, 2, 0, 3), (36, 2, 1, 3), (64, 2, 2, 3), (100, 3, 2, 3))
"""(families below which, degree of the instrumented polynomials, knots a control, degree of the
products). Cubes of a control are always there."""

MOST = (3, 4, 4)
"""The same of layers of more families."""


@dataclass(frozen=True)
class Columns:
    """Which columns a layer has.

    Parameters
    ----------
    degree : of the instrumented polynomials.
    knots : of each control, at quantiles.
    products : highest degree of products of several controls.
    """

    degree: int
    knots: int
    products: int

    @classmethod
    def of(cls, families: int) -> Columns:
        """Those that so many independent channels afford.

        >>> [Columns.of(n).number(2) for n in (16, 20, 32, 64, 128)]
        [8, 10, 12, 14, 21]
        """
        for below, *columns in STEPS:
            if families < below:
                return cls(*columns)
        return cls(*MOST)

    def number(self, controls: int) -> int:
        """How many there are for so many controls."""
        further = len(self._further(controls)) + self.knots * controls
        return comb(controls + self.degree, self.degree) + further

    def polynomial(self, controls: Float) -> Float:
        """(..., n, columns) products of up to `degree` of the (q, ..., n) controls, from none."""
        return _monomials(controls, _powers(len(controls), range(self.degree + 1)))

    def further(self, controls: Float) -> Float:
        """(..., n, columns) of knots and higher products, less their fit by the polynomials."""
        places = ndtri((np.arange(self.knots) + 1) / (self.knots + 1))
        bends = [np.maximum(control - place, 0) ** 3 for control in controls for place in places]
        columns = _monomials(controls, self._further(len(controls)))
        if bends:
            columns = np.concatenate([columns, np.stack(bends, axis=-1)], axis=-1)
        low = self.polynomial(controls)
        gram = low.swapaxes(-1, -2) @ low + ridge(low)
        left = columns - low @ np.linalg.solve(gram, low.swapaxes(-1, -2) @ columns)
        size = np.sqrt((left**2).mean(axis=-2, keepdims=True))
        # what the polynomials say wholly, as of controls with few values, is no column
        return np.asarray(np.where(size > 1e-6, left / np.maximum(size, 1e-6), 0.0))

    def _further(self, controls: int) -> list[tuple[int, ...]]:
        higher = _powers(controls, range(self.degree + 1, max(self.products, 3) + 1))
        return [
            p for p in higher if (len(set(p)) > 1 and len(p) <= self.products) or p.count(p[0]) == 3
        ]


def ridge(columns: Float) -> Float:
    """What keeps copies of a control, or one that is constant, solvable: 1e-9 of n."""
    return np.asarray(1e-9 * columns.shape[-2] * np.eye(columns.shape[-1]))


def _powers(controls: int, degrees: Iterable[int]) -> list[tuple[int, ...]]:
    """Which controls are multiplied, with repeats, in all products of these degrees."""
    return [p for d in degrees for p in combinations_with_replacement(range(controls), d)]


def _monomials(controls: Float, powers: list[tuple[int, ...]]) -> Float:
    shape = controls.shape[1:]
    columns = [np.prod([np.ones(shape), *(controls[i] for i in p)], axis=0) for p in powers]
    return np.stack(columns, axis=-1) if columns else np.zeros((*shape, 0))
