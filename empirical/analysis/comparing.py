"""Two measurements channel by channel: who is whose counterpart, and what has changed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import linear_sum_assignment
from scipy.stats import false_discovery_control, norm

from empirical.measuring.table import AxisTable
from theory import QUANTITIES, Moments, jackknife_standard_error
from theory.rank_coupling import spearman
from theory.shared.findings import Finding
from theory.shared.validation import Float, indices, instance, one_of
from theory.standardize import standardize

if TYPE_CHECKING:
    import pandas as pd

MATCHES = ("index", "moments")

LEVEL = 0.05
"""Expected share of false ones among the channels that are said to have moved."""

ROUNDING = 1e-5
"""Share of a value within which single precision may change it."""

LOCAL, TARGET = "peer_predictability", "task_information"

Indices = NDArray[np.intp]


@dataclass(frozen=True, eq=False)
class Comparison:
    """What became of each channel.

    Attributes
    ----------
    matched : layer -> (channels of the first table, their counterparts in the second)
    before, after, change : layer -> quantity -> (m,) values of the matched, and their difference
    errors : layer -> quantity -> (m,) standard errors of the difference; empty without any. Of the
        same images in the same groups they are those of the paired difference.
    moved : layer -> quantity -> (m,) whether it changed by more than its errors, at a false
        discovery rate of 5 % within the layer
    alone : names of layers that only one of the tables has
    """

    matched: Mapping[str, tuple[Indices, Indices]]
    before: Mapping[str, Mapping[str, Float]]
    after: Mapping[str, Mapping[str, Float]]
    change: Mapping[str, Mapping[str, Float]]
    errors: Mapping[str, Mapping[str, Float]]
    moved: Mapping[str, Mapping[str, NDArray[np.bool_]]]
    alone: tuple[str, ...]

    def to_frame(self) -> pd.DataFrame:
        """One row per matched channel: `layer`, `channel`, `counterpart`, and of each quantity
        `<name>_before`, `<name>_after`, `<name>_change`, `<name>_change_se` and `<name>_moved`.
        """  # noqa: D205
        import pandas as pd  # here, since importing pandas takes a second

        frames = []
        for layer, (first, second) in self.matched.items():
            columns: dict[str, ArrayLike] = {}
            for name in QUANTITIES:
                columns[f"{name}_before"] = self.before[layer][name]
                columns[f"{name}_after"] = self.after[layer][name]
                columns[f"{name}_change"] = self.change[layer][name]
                if name in self.errors[layer]:
                    columns[f"{name}_change_se"] = self.errors[layer][name]
                    columns[f"{name}_moved"] = self.moved[layer][name]
            head = {"layer": layer, "channel": first, "counterpart": second}
            frames.append(pd.DataFrame({**head, **columns}))
        return pd.concat(frames, ignore_index=True)

    def describe(self) -> pd.DataFrame:
        """One row per layer: `layer`, `matched` channels, and of peer predictability and task
        information how many `rose`, how many `fell` and the median `change`; the `coupling` of the
        two (Spearman) before and after.
        """  # noqa: D205
        import pandas as pd

        rows = []
        for layer, (first, _) in self.matched.items():
            row: dict[str, object] = {"layer": layer, "matched": len(first)}
            for name in (LOCAL, TARGET):
                change, moved = self.change[layer][name], self.moved[layer].get(name)
                known = change[np.isfinite(change)]
                row[f"{name}_change"] = float(np.median(known)) if known.size else np.nan
                if moved is not None:
                    row[f"{name}_rose"] = int((moved & (change > 0)).sum())
                    row[f"{name}_fell"] = int((moved & (change < 0)).sum())
            for when, values in (("before", self.before), ("after", self.after)):
                row[f"coupling_{when}"] = _coupling(values[layer])
            rows.append(row)
        return pd.DataFrame(rows)

    def turned(self, layer: str) -> Indices:
        """Channels of the first table whose task information fell while peers predict them better.

        Both beyond their errors: from relevant to replaceable.
        """
        one_of("layer", layer, self.matched)
        moved, change = self.moved[layer], self.change[layer]
        if not moved:
            return np.empty(0, dtype=np.intp)
        both = moved[LOCAL] & (change[LOCAL] > 0) & moved[TARGET] & (change[TARGET] < 0)
        return self.matched[layer][0][both]

    def findings(self) -> list[Finding]:
        """Sentences on how many channels have a counterpart, moved, and turned replaceable."""
        pairs = sum(len(first) for first, _ in self.matched.values())
        same = sum(int((a == b).sum()) for a, b in self.matched.values())
        found = [
            Finding(
                "{pairs:,} channels of {layers} layers have a counterpart, {same:,} of them under "
                "the same index.",
                {"pairs": pairs, "layers": len(self.matched), "same": same},
            )
        ]
        if any(self.moved.values()):
            for name in (LOCAL, TARGET):
                moved, change = (
                    np.concatenate([part[layer][name] for layer in self.matched])
                    for part in (self.moved, self.change)
                )
                found.append(
                    Finding(
                        name.replace("_", " ").capitalize() + " rose beyond its errors in {rose:,} "
                        "channels and fell in {fell:,}.",
                        {
                            "rose": int((moved.astype(bool) & (change > 0)).sum()),
                            "fell": int((moved.astype(bool) & (change < 0)).sum()),
                        },
                    )
                )
            turned = sum(len(self.turned(layer)) for layer in self.matched)
            found.append(
                Finding("{turned:,} went from relevant to replaceable: both.", {"turned": turned})
            )
        if self.alone:
            found.append(Finding(f"Only one table has: {', '.join(self.alone)}."))
        return found

    def __str__(self) -> str:
        return "\n".join([*map(str, self.findings()), "", self.describe().to_string(index=False)])

    def _repr_html_(self) -> str:
        from html import escape

        sentences = "".join(f"<li>{escape(str(finding))}</li>" for finding in self.findings())
        return f"<ul>{sentences}</ul>{self.describe().to_html(index=False)}"


def compare(
    a: AxisTable,
    b: AxisTable,
    *,
    match: str | Mapping[str, Sequence[int]] = "index",
) -> Comparison:
    """Set two measurements beside each other, channel by channel.

    Parameters
    ----------
    a, b : from `measure`, of the same architecture: two checkpoints, two trainings, or a network
        before and after pruning
    match : "index" for checkpoints of one training; "moments" finds counterparts whose power, mean,
        target correlation and correlations with peers are most alike, by assignment (it finds the
        order of a permuted copy; of separate trainings it finds what is alike); or for each
        layer of `b` the channels of `a` that its channels are, as `PrunedModel.kept` says

    Raises
    ------
    TypeError, ValueError
        naming the argument, its value and the remedy; by index, layers of other sizes; by moments,
        tables that were saved without them

    Examples
    --------
    >>> import torch
    >>> from empirical import measure
    >>> net = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.ReLU(), torch.nn.Linear(4, 2))
    >>> table = measure(net, [(torch.randn(200, 3), torch.arange(200) % 2)])
    >>> print(compare(table, table).findings()[0])
    4 channels of 1 layers have a counterpart, 4 of them under the same index.
    """
    for name, table in (("a", a), ("b", b)):
        instance(name, table, AxisTable, "Pass what measure returned, or AxisTable.load.")
    if isinstance(match, str):
        one_of("match", match, MATCHES)
    else:
        instance("match", match, Mapping, "Pass 'index', 'moments', or layer -> channels.")
    shared = [layer for layer in a.layers if layer in b.axes]
    if not shared:
        raise ValueError(
            f"a and b must have layers in common; a has {a.layers[:3]}, b has {b.layers[:3]}."
        )
    matched = {layer: _matched(a, b, layer, match) for layer in shared}
    before, after, change, errors, moved = ({} for _ in range(5))
    for layer, (first, second) in matched.items():
        before[layer] = {n: v[first] for n, v in a[layer].as_dict().items()}
        after[layer] = {n: v[second] for n, v in b[layer].as_dict().items()}
        change[layer] = {n: after[layer][n] - before[layer][n] for n in QUANTITIES}
        errors[layer] = _errors(a, b, layer, first, second)
        moved[layer] = {
            n: _moved(before[layer][n], after[layer][n], e) for n, e in errors[layer].items()
        }
    alone = tuple(dict.fromkeys(n for n in (*a.layers, *b.layers) if n not in matched))
    return Comparison(matched, before, after, change, errors, moved, alone)


def _matched(
    a: AxisTable, b: AxisTable, layer: str, match: str | Mapping[str, Sequence[int]]
) -> tuple[Indices, Indices]:
    sizes = [table[layer].signal_power.size for table in (a, b)]
    if not isinstance(match, str):
        if layer in match:
            kept = indices(f"match[{layer!r}]", np.asarray(match[layer]), sizes[0], distinct=True)
            if len(kept) != sizes[1]:
                raise ValueError(
                    f"match[{layer!r}] must name a channel of a for each of the {sizes[1]} "
                    f"channels of b; got {len(kept)}."
                )
            return kept, np.arange(sizes[1])
        match = "index"
    if match == "index":
        if sizes[0] != sizes[1]:
            raise ValueError(
                f"match='index' needs layers of equal size; {layer!r} has {sizes[0]} channels in a "
                f"and {sizes[1]} in b. Pass match='moments', or which channels were kept."
            )
        return np.arange(sizes[0]), np.arange(sizes[0])
    for name, table in (("a", a), ("b", b)):
        if layer not in table.moments:
            raise ValueError(
                f"{name} must hold moments to match by them; layer {layer!r} has none. Save "
                "tables with moments='total'."
            )
    first, second = linear_sum_assignment(
        _distance(_signature(a.moments[layer]), _signature(b.moments[layer]))
    )
    return np.asarray(first, np.intp), np.asarray(second, np.intp)


def _signature(moments: Moments) -> list[Float]:
    """What does not depend on the order of channels: own statistics, and sorted correlations."""
    layer = standardize(moments)
    c = moments.n_channels
    scale = np.sqrt(layer.power[layer.live].mean()) if layer.live.size else 1.0
    own = np.column_stack([np.sqrt(layer.power), moments.mean[:c]]) / scale
    toward = np.zeros(c)
    toward[layer.live] = np.sqrt((layer.loadings**2).sum(1))
    correlation = np.zeros((c, c))
    correlation[np.ix_(layer.live, layer.live)] = layer.correlation
    np.fill_diagonal(correlation, 1.0)
    levels = np.quantile(correlation, np.linspace(0, 1, min(c, 65)), axis=1).T
    return [np.column_stack([own, toward]), levels]


def _distance(a: list[Float], b: list[Float]) -> Float:
    """(C_a, C_b): mean squared differences of both parts of the signatures."""
    total = np.zeros((len(a[0]), len(b[0])))
    for x, y in zip(a, b, strict=True):
        if x.shape[1] != y.shape[1]:  # a small layer: as many levels as the smaller one has
            fewer = min(x.shape[1], y.shape[1])
            x, y = (
                np.array(
                    [np.interp(np.linspace(0, 1, fewer), np.linspace(0, 1, len(r)), r) for r in z]
                )
                for z in (x, y)
            )
        total += ((x[:, None] - y[None]) ** 2).mean(2)
    return total


def _errors(
    a: AxisTable, b: AxisTable, layer: str, first: Indices, second: Indices
) -> dict[str, Float]:
    """Standard errors of the changes: paired where both saw the same images in the same groups."""
    one, other = a.replicates.get(layer, {}), b.replicates.get(layer, {})
    if not one or not other:
        return {}
    keys = ("groups", "seed", "positions", "sampling", "first_image", "n_images")
    paired = (
        bool(a.image_digests)
        and a.image_digests == b.image_digests
        and all(a.settings.get(key) == b.settings.get(key) for key in keys)
    )
    if paired:
        return {
            n: jackknife_standard_error(other[n][:, second] - one[n][:, first]) for n in QUANTITIES
        }
    apart = a.standard_errors(layer), b.standard_errors(layer)
    return {n: np.hypot(apart[0][n][first], apart[1][n][second]) for n in QUANTITIES}


def _moved(before: Float, after: Float, error: Float) -> NDArray[np.bool_]:
    """Which differ by more than rounding and than errors, at the false discovery rate `LEVEL`.

    A change without error is exact.
    """
    change = after - before
    larger = np.abs(change) > ROUNDING * np.maximum(np.abs(before), np.abs(after))
    found = larger & (error == 0)
    tested = np.isfinite(change) & (error > 0)
    if tested.any():
        p = 2 * norm.sf(np.abs(change[tested]) / error[tested])
        found[tested] = (false_discovery_control(p) < LEVEL) & larger[tested]
    return np.asarray(found)


def _coupling(values: Mapping[str, Float]) -> float:
    known = np.isfinite(values[LOCAL]) & np.isfinite(values[TARGET])
    if known.sum() < 3:
        return float("nan")
    return float(spearman(values[LOCAL][known], values[TARGET][known]))
