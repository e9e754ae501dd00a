"""Pruning criteria by name: small pure functions from what is known of a layer to its scores.

Higher means keep. One that cannot be computed says so and never becomes another one.
"""

from __future__ import annotations

import numpy as np

from empirical.pruning import (  # noqa: F401  (importing declares their criteria)
    criteria_compensated,
    criteria_damage,
    criteria_gradients,
    criteria_information,
    criteria_kernels,
    criteria_maps,
    criteria_weights,
    folding,
)
from empirical.pruning.criterion import (
    REGISTRY,
    Knowledge,
    Score,
    Scores,
    criterion_of,
    register_criterion,
)

__all__ = [
    "REGISTRY", "comparable", "criterion_names", "criterion_of", "criterion_rows",
    "register_criterion", "scores",
]  # fmt: skip


def criterion_names() -> list[str]:
    """Every criterion, in the order of declaration.

    >>> "-peer_predictability" in criterion_names()
    True
    """
    return list(REGISTRY)


def criterion_rows() -> list[tuple[str, str, str]]:
    """Name, axis and source of every criterion, in the order of declaration.

    >>> next(row for row in criterion_rows() if row[0] == "l2")
    ('l2', 'weights', "norm of the channel's filter")
    """
    return [(c.name, c.axis, c.source) for c in REGISTRY.values()]


def scores(known: Knowledge, criterion: str | Score, *, seed: int = 0) -> dict[str, Scores]:
    """Score every unit of every group by name or by function; group name -> (units,).

    Raises ValueError for an unknown name (with the nearest) and for scores of a wrong shape or not
    finite (naming criterion and layer).
    """
    chosen = criterion_of(criterion)
    return {group.name: chosen.of(known, group, seed) for group in known.graph.groups}


def comparable(criterion: str | Score, found: dict[str, Scores]) -> dict[str, Scores]:
    """Scores that groups can compete on, by the criterion's `across` rule."""
    if criterion_of(criterion).across == "raw":
        return found
    return {
        name: value / max(float(np.abs(value).mean()), np.finfo(float).tiny)
        for name, value in found.items()
    }
