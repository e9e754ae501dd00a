"""Pairs of channels lesioned together: is the damage more or less than the sum of its parts?

The interaction of a pair is D(i, j) - D(i) - D(j), image by image on the same network: positive
where each covers for the other (super-additive), negative where they serve one purpose in series
or the loss saturates. Pairs with the largest excess S_ij about the target go beside controls of the
same layer whose members do the same damage one at a time; `empirical.analysis.pairs` compares them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from torch import nn

from empirical.lesions.execution import Progress
from empirical.lesions.lesioning import lesion
from empirical.lesions.table import LesionTable
from empirical.measuring.table import AxisTable
from theory.moments import Moments
from theory.pairs import pairwise_excess
from theory.shared.validation import Float, count, one_of
from theory.standardize import standardize


def pair_relations(moments: Moments) -> dict[str, Float]:
    """Return (C, C) "excess" S_ij in nats and "overlap" |R_ij| of all pairs.

    NaN on the diagonal, and an excess also where a pair determines the target or is undecided.

    Examples
    --------
    >>> cov = [[1, 0.8, 0.5], [0.8, 1, 0.0], [0.5, 0.0, 1]]
    >>> relations = pair_relations(Moments.from_covariance(cov))
    >>> bool(relations["excess"][0, 1] > 0.4), float(relations["overlap"][0, 1])
    (True, 0.8)
    """
    layer = standardize(moments)
    c, live = moments.n_channels, layer.live
    everyone = np.broadcast_to(np.arange(live.size), (live.size, live.size))
    explained = (layer.loadings**2).sum(axis=1)
    excess = pairwise_excess(layer.correlation, layer.loadings, explained, everyone)
    found = {
        "excess": np.where(np.isinf(excess), np.nan, excess),
        "overlap": np.abs(layer.correlation),
    }
    result = {}
    for name, values in found.items():
        full = np.full((c, c), np.nan)
        full[np.ix_(live, live)] = values
        np.fill_diagonal(full, np.nan)
        result[name] = full
    return result


def choose_pairs(
    excess: Float, damage: Float, pairs: int, rng: np.random.Generator
) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Return (m, 2) pairs with the largest S_ij and (m, 2) controls matched on single damage.

    No channel is in two of the high pairs, so that one unusual channel cannot be the result. A
    control is an unused pair from the lower half of S_ij whose larger and smaller single damage
    are nearest in rank.
    """
    from scipy.stats import rankdata  # takes a second, which importing lesions should not

    rows, columns = np.triu_indices(len(damage), 1)
    known = ~np.isnan(excess[rows, columns])
    rows, columns = rows[known], columns[known]
    values = excess[rows, columns]
    rank = rankdata(damage)
    single = np.sort(np.column_stack([rank[rows], rank[columns]]), axis=1)
    high: list[int] = []
    taken: set[int] = set()
    for index in np.argsort(-values, kind="stable"):
        if len(high) == pairs or values[index] <= np.median(values):
            break
        if not {rows[index], columns[index]} & taken:
            high.append(int(index))
            taken |= {rows[index], columns[index]}
    pool = rng.permutation(np.flatnonzero(values <= np.median(values)))
    free = np.ones(pool.size, dtype=bool)
    controls: list[int] = []
    for index in high:
        distance = ((single[pool] - single[index]) ** 2).sum(axis=1)
        distance[~free] = np.inf
        nearest = int(np.argmin(distance))
        free[nearest] = False
        controls.append(int(pool[nearest]))
    both = np.column_stack([rows, columns])
    return both[high], both[controls]


def lesion_pairs(
    model: nn.Module,
    loader: Iterable[object],
    table: AxisTable,
    *,
    layers: Sequence[str] | None = None,
    pairs: int = 12,
    kind: str = "mean",
    memory: int | None = None,
    seed: int = 0,
    progress: Progress | None = None,
    **options: Any,
) -> pd.DataFrame:
    """Lesion the pairs with the largest S_ij, and matched controls, in every layer.

    Parameters
    ----------
    model, loader, memory, progress, options : as for `lesion`; the loader holds images that
        calibration has not seen.
    table : what `measure` returned: S_ij and the means come from its moments.
    layers : names; None means every measured layer of at least 8 channels.
    pairs : most high pairs in a layer, and as many controls.
    kind : "mean", "zero" or "resample".
    seed : of the order in which controls are considered, and of the lesions.

    Returns
    -------
    One row per lesioned pair: layer, first, second, group ("high" or "control"), match (number of
    the high pair that a control belongs to), excess S_ij, overlap |R_ij|, single_sum (D(i) + D(j)),
    pair_damage, interaction and interaction_se, its standard error over images.

    Raises
    ------
    ValueError
        A layer that was not measured, or measured without a target.
    """
    count("pairs", pairs)
    rng = np.random.default_rng(seed)
    names = [name for name in table.layers if len(table[name].signal_power) >= 8]
    if layers is not None:
        names = [one_of("layers", name, table.layers) for name in layers]
    if not names:
        raise ValueError(
            "table must hold a layer of at least 8 channels; it holds "
            f"{', '.join(map(repr, table.layers))}. Name smaller ones in layers."
        )
    common = {"kinds": [kind], "calibration": table, "memory": memory, "seed": seed, **options}
    singles = lesion(model, loader, layers=names, progress=progress, **common)
    chosen: dict[str, tuple[NDArray[np.intp], NDArray[np.intp]]] = {}
    relations = {name: pair_relations(table.moments[name]) for name in names}
    average, _ = singles.mean_and_error("loss_increase")
    for name in names:
        damage = average[singles.layer == name]
        chosen[name] = choose_pairs(relations[name]["excess"], damage, pairs, rng)
    sets = {name: np.concatenate(both).tolist() for name, both in chosen.items()}
    doubles = lesion(model, loader, channels=sets, progress=progress, **common)
    return _pair_frame(singles, doubles, relations, {n: len(b[0]) for n, b in chosen.items()})


def _pair_frame(
    singles: LesionTable,
    doubles: LesionTable,
    relations: Mapping[str, dict[str, Float]],
    high: Mapping[str, int],
) -> pd.DataFrame:
    one = {
        (layer, members[0]): singles.per_image("loss_increase")[row].astype(np.float64)
        for row, (layer, members) in enumerate(zip(singles.layer, singles.channels, strict=True))
    }
    rows, seen = [], dict.fromkeys(high, 0)
    for layer, (i, j), together in zip(
        doubles.layer, doubles.channels, doubles.per_image("loss_increase"), strict=True
    ):
        parts = one[layer, i] + one[layer, j]
        interaction = together.astype(np.float64) - parts
        number, size = seen[layer], high[layer]
        seen[layer] += 1
        rows.append(
            {
                "layer": layer,
                "first": i,
                "second": j,
                "group": "high" if number < size else "control",
                "match": number % size,
                "excess": relations[layer]["excess"][i, j],
                "overlap": relations[layer]["overlap"][i, j],
                "single_sum": parts.mean(),
                "pair_damage": float(together.mean(dtype=np.float64)),
                "interaction": interaction.mean(),
                "interaction_se": interaction.std(ddof=1) / np.sqrt(len(interaction)),
            }
        )
    return pd.DataFrame(rows)
