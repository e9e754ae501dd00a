"""Pruning criteria by name: small pure functions from what is known of a layer to its scores.

Higher means keep. One that cannot be computed says so and never becomes another one.
"""

from __future__ import annotations

import numpy as np

from empirical.pruning import (  # noqa: F401  (importing declares their criteria)
    criteria_compensated,
    criteria_gradients,
    criteria_information,
    criteria_maps,
    criteria_weights,
    folding,
)
from empirical.pruning.criterion import REGISTRY, Knowledge, Scores
from theory.shared.validation import one_of


def criterion_names() -> list[str]:
    """Every criterion, in the order of declaration.

    >>> "-peer_predictability" in criterion_names()
    True
    """
    return list(REGISTRY)


def scores(known: Knowledge, criterion: str, *, seed: int = 0) -> dict[str, Scores]:
    """Score every unit of every group; group name -> (units,).

    Raises ValueError for an unknown criterion (with the nearest names) and where a score is not
    finite (naming criterion and layer).
    """
    chosen = REGISTRY[one_of("criterion", criterion, REGISTRY)]
    found = {}
    for group in known.graph.groups:
        value = np.asarray(chosen.score(known, group, seed), dtype=np.float64)
        bad = np.flatnonzero(~np.isfinite(value))
        if bad.size or value.shape != (group.units,):
            raise ValueError(
                f"criterion {criterion!r} is not finite on layer {group.name!r}: {bad.size} of "
                f"{group.units} channels, the first {bad[0] if bad.size else value.shape}. Choose "
                "another criterion, or name the layer in skip."
            )
        found[group.name] = value
    return found


def comparable(criterion: str, found: dict[str, Scores]) -> dict[str, Scores]:
    """Scores that groups can compete on, by the criterion's `across` rule."""
    if REGISTRY[criterion].across == "raw":
        return found
    return {
        name: value / max(float(np.abs(value).mean()), np.finfo(float).tiny)
        for name, value in found.items()
    }
