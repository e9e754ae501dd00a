"""Two measurements set beside each other, channel by channel."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.stats import false_discovery_control
from scipy.stats import t as student

from empirical.analysis.comparison import Comparison
from empirical.analysis.matching import MATCHES, Indices, Matching, match_tables
from empirical.measuring.table import AxisTable
from theory import jackknife_standard_error
from theory.shared.validation import Float, instance, one_of

LEVEL = 0.05
"""Expected share of false ones among the channels that are said to have moved."""

MEASURED_ALIKE = (
    "target", "point", "sampling", "noise", "ridge", "peers", "top", "bias_correction", "estimate",
)  # fmt: skip
"""Settings that both measurements must have in common: other ones change what is measured."""

ROUNDING = 1e-5
"""Share of a value within which single precision may change it."""


def compare(
    a: AxisTable,
    b: AxisTable,
    *,
    match: str | Mapping[str, Sequence[int]] | Matching = "index",
) -> Comparison:
    """Set two measurements beside each other, channel by channel.

    Parameters
    ----------
    a, b : from `measure`, of the same architecture: two checkpoints, two trainings, or a network
        before and after pruning
    match : "index" for checkpoints of one training; what `match_channels` returns, for separate
        trainings, permuted copies and pruned networks; for each layer of `b` the channels of `a`
        that its channels are, as `PrunedModel.kept` says; or "moments", where only tables are left:
        counterparts whose power, mean, target correlation and correlations with peers are most
        alike

    Raises
    ------
    TypeError, ValueError
        naming the argument, its value and the remedy; tables that were measured otherwise; by
        index, layers of other sizes; by moments, tables that were saved without them

    Examples
    --------
    >>> import torch
    >>> from empirical import measure
    >>> net = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.ReLU(), torch.nn.Linear(4, 2))
    >>> table = measure(net, [(torch.randn(200, 3), torch.arange(200) % 2)])
    >>> print(compare(table, table).findings()[0])
    Matched by index: 4 channels of 1 layers have a counterpart, 4 of them under the same index.
    """
    for name, table in (("a", a), ("b", b)):
        instance(name, table, AxisTable, "Pass what measure returned, or AxisTable.load.")
    if isinstance(match, str):
        one_of("match", match, MATCHES)
    elif not isinstance(match, Matching):
        instance("match", match, Mapping, "Pass 'index', 'moments', or what match_channels gives.")
    for key in MEASURED_ALIKE:
        one, other = a.settings.get(key), b.settings.get(key)
        if one != other:
            raise ValueError(
                f"a and b must be measured alike; {key} is {one!r} in one and {other!r} in the "
                "other. Measure both with the same."
            )
    shared = [layer for layer in a.layers if layer in b.axes]
    if not shared:
        raise ValueError(
            f"a and b must have layers in common; a has {a.layers[:3]}, b has {b.layers[:3]}."
        )
    if isinstance(match, Matching):
        shared = [layer for layer in shared if layer in match.pairs]
        matched = {layer: _fitting(match.pairs[layer], a, b, layer) for layer in shared}
        known = {layer: match.correlation[layer] for layer in shared if layer in match.correlation}
        chance, how = match.chance, "activations"
    else:
        matched = {layer: match_tables(a, b, layer, match) for layer in shared}
        known, chance, how = {}, {}, match if isinstance(match, str) else "what was kept"
    before, after, change, errors, moved, without = ({} for _ in range(6))
    paired = _paired(a, b)
    # of as many groups as the table of fewer: conservative where tables are not paired
    groups = min(int(table.settings["groups"]) for table in (a, b))
    for layer, (first, second) in matched.items():
        one, other = a.values(layer), b.values(layer)
        before[layer] = {n: one[n][first] for n in one if n in other}
        after[layer] = {n: other[n][second] for n in before[layer]}
        change[layer] = {n: after[layer][n] - v for n, v in before[layer].items()}
        errors[layer] = _errors(a, b, layer, first, second, paired)
        moved[layer] = {
            n: _moved(before[layer][n], after[layer][n], e, groups)
            for n, e in errors[layer].items()
        }
        sizes = [table[layer].signal_power.size for table in (a, b)]
        without[layer] = (sizes[0] - len(first), sizes[1] - len(second))
    alone = tuple(dict.fromkeys(n for n in (*a.layers, *b.layers) if n not in matched))
    return Comparison(
        matched, before, after, change, errors, moved, without, alone, how, groups, known, chance
    )


def _fitting(
    pair: tuple[Indices, Indices], a: AxisTable, b: AxisTable, layer: str
) -> tuple[Indices, Indices]:
    """A layer's pairs, if the tables have these channels."""
    for name, table, own in (("a", a, pair[0]), ("b", b, pair[1])):
        size = table[layer].signal_power.size
        if own.size and own.max() >= size:
            raise ValueError(
                f"match must be of the networks that were measured; layer {layer!r} has {size} "
                f"channels in {name}, and match names channel {own.max()}."
            )
    return pair


def _paired(a: AxisTable, b: AxisTable) -> bool:
    """Whether both saw the same images in the same groups."""
    keys = ("groups", "seed", "positions", "sampling", "first_image", "n_images")
    same = all(a.settings.get(key) == b.settings.get(key) for key in keys)
    return bool(a.image_digests) and a.image_digests == b.image_digests and same


def _errors(
    a: AxisTable, b: AxisTable, layer: str, first: Indices, second: Indices, paired: bool
) -> dict[str, Float]:
    """Standard errors of the changes: of paired differences, or of both apart."""
    if not a.replicates.get(layer) or not b.replicates.get(layer):
        return {}
    one, other = a.without_groups(layer), b.without_groups(layer)
    names = [n for n in one if n in other]
    if paired:
        return {n: jackknife_standard_error(other[n][:, second] - one[n][:, first]) for n in names}
    apart = a.standard_errors(layer), b.standard_errors(layer)
    return {n: np.hypot(apart[0][n][first], apart[1][n][second]) for n in names}


def _moved(before: Float, after: Float, error: Float, groups: int) -> NDArray[np.bool_]:
    """Which differ by more than rounding and than errors, at the false discovery rate `LEVEL`.

    A change without error is exact. A jackknife over groups knows its own error by Student's law.
    """
    change = after - before
    larger = np.abs(change) > ROUNDING * np.maximum(np.abs(before), np.abs(after))
    found = larger & (error == 0)
    tested = np.isfinite(change) & (error > 0)
    if tested.any():
        p = 2 * student.sf(np.abs(change[tested]) / error[tested], groups - 1)
        found[tested] = (false_discovery_control(p) < LEVEL) & larger[tested]
    return np.asarray(found)
