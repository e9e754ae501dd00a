"""Layers whose damage and score both depend on the controls, for `levels.py`."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from functools import partial

import numpy as np

from empirical.analysis.statistics import Stratum, effect, normal_scores

REPORT = (16,) * 5 + (32,) * 5 + (64,) * 5 + (128,) * 5
SLOPE = -0.14
"""The report's effect: standard deviations of damage per standard deviation of the score."""
LEVEL = 0.05
Found = Iterator[bool | float]


SHAPES: dict[str, Callable[[np.ndarray, np.ndarray], np.ndarray]] = {
    "S-shaped": lambda a, b: np.tanh(3 * b),
    "step": lambda a, b: 1.0 * (b > 1),
    "cubic": lambda a, b: 0.2 * b**3,
    "twice bent": lambda a, b: 0.8 * np.sin(2 * b),
    "lesser of two": lambda a, b: 1.5 * np.minimum(a, b),
    "joint": lambda a, b: 0.4 * a * a * b,
}
"""What score and damage both owe to the controls, in ways that no quadratic follows."""


def confounded(kind: str, a: np.ndarray, b: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """What the tested score, and what the damage, owe to the controls."""
    if kind == "linear":
        return 0.3 * a + 0.6 * b, 0.3 * a + 0.6 * b
    if kind == "strong":
        return 0.3 * a + 1.2 * b, 0.3 * a + 1.2 * b
    if kind == "product":
        return 0.6 * a * b, 0.6 * a * b
    if kind == "curved":
        return 0.8 * np.tanh(2 * b), 0.4 * np.exp(b)
    alike = SHAPES.get(kind, lambda a, b: 0 * a)(a, b)
    return alike, alike


def _values(rng: np.random.Generator, draws: int, members: np.ndarray) -> np.ndarray:
    """(draws, n) standard normal values, of which members of a family share nine tenths."""
    own = rng.standard_normal((draws, len(members)))
    if len(members) == members[-1] + 1:
        return own
    shared = rng.standard_normal((draws, members[-1] + 1))[:, members]
    return np.asarray(math.sqrt(0.9) * shared + math.sqrt(0.1) * own)


def c4(
    draws: int,
    sizes: tuple[int, ...] = REPORT,
    kind: str = "linear",
    reliability: float = 1.0,
    family: int = 1,
    damage: str = "plain",
    slope: float = 0.0,
) -> Found:
    """Whether a slope beyond the controls is found, data set by data set."""
    rng = np.random.default_rng(1)
    for begin in range(0, draws, 250):
        shape = min(250, draws - begin)
        strata = []
        for n in sizes:
            members = np.arange(n) // family
            values = partial(_values, rng, shape, members)
            a, b = values(), values()
            b = 0.2 * a + math.sqrt(0.96) * b
            to_score, to_damage = confounded(kind, a, b)
            e = to_score + 0.8 * values()
            d = to_damage + slope * e + 0.8 * values()
            if damage == "skewed":
                d = np.exp(2 * d) + 0.05 * rng.standard_normal(d.shape)
            if damage == "tied":
                d = np.maximum(np.round(2 * d), 0)
            noise = math.sqrt(2 * (1 - reliability) / reliability) * rng.standard_normal(
                (2, *b.shape)
            )
            halves = [
                [e + 0.2 * own + 0.3 * x, a + 0.1 * other, b + x]
                for x, own, other in zip(noise, *rng.standard_normal((2, 2, *b.shape)), strict=True)
            ]
            readings = normal_scores(np.array([np.mean(halves, axis=0), *halves]))
            strata.append(Stratum(normal_scores(d), readings, members))
        yield from effect([stratum for stratum in strata if stratum.usable]).p < LEVEL
