"""What became of each channel between two measurements: numbers, and words from them."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping
from dataclasses import dataclass, field
from html import escape
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike, NDArray

from empirical.analysis.coupling_change import (
    TARGET,
    CouplingChange,
    coupling_change,
    rank_coupling,
)
from empirical.analysis.matching import Indices
from empirical.measuring.damage_table import ALONE, RECOVERED
from empirical.measuring.description import NAME, median, shortened
from theory import QUANTITIES
from theory.shared.findings import Finding
from theory.shared.validation import Float, one_of

if TYPE_CHECKING:
    import pandas as pd

CAPTURE, LOCAL = "input_capture", "peer_predictability"

STRANGE = 0.5
"""Correlation of counterparts below which they have less than a quarter of their variance in
common."""

WIDTH = 80
"""Columns of a terminal."""

LISTED = 5
"""Channels that are named one by one."""

COLUMNS = {
    "matched": "pairs",
    "correlation": "corr",
    f"{LOCAL}_rose": "E +",
    f"{LOCAL}_fell": "E −",
    f"{TARGET}_rose": "I_T +",
    f"{TARGET}_fell": "I_T −",
    "coupling_before": "1st",
    "coupling_after": "last",
}
"""Column of `Comparison.describe` -> its head within a line of 80 columns."""

LEGEND = (
    "E +, −: channels that peers predict better, worse than before, beyond their errors; I_T +, −: "
    "that say more, less about the target. 1st, last: rank correlation of input capture and I_T in "
    "the first and the last."
)
MATCHED = " corr: median correlation of counterparts."


@dataclass(frozen=True, eq=False)
class Comparison:
    """What became of each channel.

    Attributes
    ----------
    matched : layer -> (channels of the first table, their counterparts in the last)
    before, after, change : layer -> quantity -> (m,) values of the matched, and their difference
    errors : layer -> quantity -> (m,) standard errors of the difference; empty without any. Of the
        same images in the same groups they are those of the paired difference.
    moved : layer -> quantity -> (m,) whether it changed by more than its errors, at a false
        discovery rate of 5 % within the layer
    without : layer -> how many channels of the first and of the second table have no counterpart
    alone : names of layers that only one of the tables has, or that were not matched
    how : what counterparts were matched by
    groups : of images, that the errors are of; those of the table of fewer
    correlation, chance : of counterparts, as in `Matching`; empty where they were not matched by
        their activations
    """

    matched: Mapping[str, tuple[Indices, Indices]]
    before: Mapping[str, Mapping[str, Float]]
    after: Mapping[str, Mapping[str, Float]]
    change: Mapping[str, Mapping[str, Float]]
    errors: Mapping[str, Mapping[str, Float]]
    moved: Mapping[str, Mapping[str, NDArray[np.bool_]]]
    without: Mapping[str, tuple[int, int]]
    alone: tuple[str, ...]
    how: str
    groups: int
    correlation: Mapping[str, Float] = field(default_factory=dict)
    chance: Mapping[str, float] = field(default_factory=dict)

    def to_frame(self) -> pd.DataFrame:
        """One row per matched channel: `layer`, `channel`, `counterpart`, `turned` ("replaceable",
        "relevant" or ""), and of each quantity `<name>_before`, `<name>_after`, `<name>_change`,
        `<name>_change_se` and `<name>_moved`; `correlation` where matched by activations.
        """  # noqa: D205
        import pandas as pd  # here, since importing pandas takes a second

        frames = []
        for layer, (first, second) in self.matched.items():
            columns: dict[str, ArrayLike] = {
                "layer": layer, "channel": first, "counterpart": second,
                "turned": np.where(self._turn(layer, 1), "replaceable",
                                   np.where(self._turn(layer, -1), "relevant", "")),
            }  # fmt: skip
            if layer in self.correlation:
                columns["correlation"] = self.correlation[layer]
            for name in self.before[layer]:
                columns[f"{name}_before"] = self.before[layer][name]
                columns[f"{name}_after"] = self.after[layer][name]
                columns[f"{name}_change"] = self.change[layer][name]
                if name in self.errors[layer]:
                    columns[f"{name}_change_se"] = self.errors[layer][name]
                    columns[f"{name}_moved"] = self.moved[layer][name]
            frames.append(pd.DataFrame(columns))
        return pd.concat(frames, ignore_index=True)

    def describe(self) -> pd.DataFrame:
        """One row per layer: `layer`, `matched` channels, and of peer predictability and task
        information how many `rose`, how many `fell` and the median `change`; how many turned
        replaceable or relevant; the `coupling` of input capture and task information (Spearman)
        before and after.
        """  # noqa: D205
        import pandas as pd

        rows = []
        for layer, (first, _) in self.matched.items():
            row: dict[str, object] = {"layer": layer, "matched": len(first)}
            if layer in self.correlation:
                row |= {"correlation": median(self.correlation[layer])}
                row |= {"chance": self.chance[layer]}
            for name in (LOCAL, TARGET):
                change, moved = self.change[layer][name], self.moved[layer].get(name)
                row[f"{name}_change"] = median(change)
                if moved is not None:
                    row[f"{name}_rose"] = int((moved & (change > 0)).sum())
                    row[f"{name}_fell"] = int((moved & (change < 0)).sum())
            if self.moved[layer]:
                row["turned_replaceable"] = len(self.turned(layer))
                row["turned_relevant"] = len(self.turned(layer, to="relevant"))
            for when, values in (("before", self.before), ("after", self.after)):
                row[f"coupling_{when}"] = rank_coupling(values[layer], CAPTURE)[0]
            rows.append(row)
        return pd.DataFrame(rows)

    def turned(self, layer: str, *, to: str = "replaceable") -> Indices:
        """Channels of the first table whose task information fell while peers predict them better.

        Both beyond their errors: from relevant to replaceable; or, `to` "relevant", the other way.
        """
        one_of("layer", layer, self.matched)
        one_of("to", to, ("replaceable", "relevant"))
        return self.matched[layer][0][self._turn(layer, 1 if to == "replaceable" else -1)]

    def _turn(self, layer: str, sign: int) -> NDArray[np.bool_]:
        moved, change = self.moved[layer], self.change[layer]
        if not moved:
            return np.zeros(len(self.matched[layer][0]), dtype=bool)
        both = moved[LOCAL] & (sign * change[LOCAL] > 0)
        return np.asarray(both & moved[TARGET] & (sign * change[TARGET] < 0))

    def separation(self, name: str = CAPTURE) -> CouplingChange:
        """Rank correlation of a quantity with task information before and after, and its change."""
        one_of("name", name, QUANTITIES)
        before, after = (list(own.values()) for own in (self.before, self.after))
        return coupling_change(before, after, name)

    def findings(self) -> list[Finding]:
        """Sentences on counterparts, the separation of the axes, who moved, and who turned."""
        return _sentences(self)

    def __str__(self) -> str:
        return _in_words(self)

    def _repr_html_(self) -> str:
        sentences = "".join(f"<li>{escape(str(finding))}</li>" for finding in self.findings())
        return f"<ul>{sentences}</ul>{self.describe().to_html(index=False)}"


def _in_words(found: Comparison) -> str:
    """Sentences, who turned, and a line per layer, within 80 columns."""
    lines = [line for one in _sentences(found) for line in textwrap.wrap(str(one), WIDTH)]
    for title, sign in (
        ("From relevant to replaceable", 1),
        ("From replaceable to relevant", -1),
    ):
        lines += _turned(found, title, sign)
    frame = found.describe()
    told = [name for name in COLUMNS if name in frame]
    lines += ["", f"{'layer':<{NAME}}" + "".join(f"{COLUMNS[name]:>7}" for name in told)]
    for row in frame.to_dict("records"):
        cells = "".join(_cell(row[name]) for name in told)
        lines.append(f"{shortened(str(row['layer']), NAME - 1):<{NAME}}{cells}")
    legend = LEGEND + (MATCHED if "correlation" in told else "")
    return "\n".join([*lines, *textwrap.wrap(legend, WIDTH)])


def _cell(value: float | int) -> str:
    if isinstance(value, int | np.integer):
        return f"{value:>7,}"
    return f"{'–' if np.isnan(value) else format(value, '+.2f'):>7}"


def _turned(found: Comparison, title: str, sign: int) -> list[str]:
    """The channels that turned, those that moved furthest first."""
    to = "replaceable" if sign > 0 else "relevant"
    rows = []
    for layer, (first, second) in found.matched.items():
        chosen = np.isin(first, found.turned(layer, to=to))
        for i in np.flatnonzero(chosen):
            local, target = (
                (found.before[layer][n][i], found.after[layer][n][i]) for n in (LOCAL, TARGET)
            )
            name = f"{shortened(layer, NAME - 1)} · {first[i]}"
            name += f" → {second[i]}" if first[i] != second[i] else ""
            rows.append((sign * (local[1] - local[0]), name, local, target))
    if not rows:
        return []
    rows.sort(key=lambda row: -row[0])
    more = f", the {LISTED} furthest of {len(rows)}" if len(rows) > LISTED else ""
    lines = ["", f"{title}{more}:"]
    for _, name, local, target in rows[:LISTED]:
        lines.append(
            f"  {name:<32} E {local[0]:.0%} → {local[1]:.0%}, "
            f"I_T {target[0]:.2g} → {target[1]:.2g} nats"
        )
    return lines


def _sentences(found: Comparison) -> list[Finding]:
    """What was compared, whether the axes parted, who moved, who turned, and what is left open."""
    told = [_counterparts(found)]
    if found.correlation:
        told.append(_alike(found))
    told.append(_separation(found))
    if any(found.moved.values()):
        told += [_moved(found), _turns(found)]
    else:
        told.append(
            Finding(
                "Neither table has standard errors on both sides, so nothing is said of single "
                "channels. Measure with standard_errors=True."
            )
        )
    if all(ALONE in own and RECOVERED in own for own in found.before.values()):
        told.append(_price(found))
    if found.alone:
        told.append(Finding(f"Not compared: {', '.join(found.alone)}."))
    return told


def _joined(found: Comparison, part: str, name: str) -> Float:
    values = getattr(found, part)
    return np.concatenate([values[layer][name] for layer in found.matched])


def _counterparts(found: Comparison) -> Finding:
    pairs = sum(len(first) for first, _ in found.matched.values())
    same = sum(int((a == b).sum()) for a, b in found.matched.values())
    left = [sum(side) for side in zip(*found.without.values(), strict=True)]
    rest = " {first:,} of the first and {second:,} of the second have none." if any(left) else ""
    return Finding(
        "Matched by {how}: {pairs:,} channels of {layers} layers have a counterpart, {same:,} of "
        "them under the same index." + rest,
        {
            "how": found.how,
            "pairs": pairs,
            "layers": len(found.matched),
            "same": same,
            "first": left[0],
            "second": left[1],
        },
    )


def _alike(found: Comparison) -> Finding:
    values = np.concatenate(list(found.correlation.values()))
    known = values[np.isfinite(values)]
    chance = median(np.array([found.chance[layer] for layer in found.correlation]))
    return Finding(
        "On the same images counterparts correlate by {middle:.2f} in the median, where unrelated "
        "images give {chance:.2f}; {strange:.0%} of the pairs stay below {limit:.1f}, and have "
        "less than a quarter of their variance in common.",
        {
            "middle": median(values),
            "chance": chance,
            "strange": float((known < STRANGE).mean()) if known.size else float("nan"),
            "limit": STRANGE,
        },
    )


def _separation(found: Comparison) -> Finding:
    capture, local = found.separation(CAPTURE), found.separation(LOCAL)
    if np.isnan(capture.change.mean):
        return Finding("How far both axes go together is not resolved: layers have few channels.")
    return Finding(
        "Rank correlation of task information with input capture, mean over layers: {before:+.2f} "
        "in the first, {after:+.2f} in the last: {word} ({change:+.2f}). With peer predictability: "
        "{local_before:+.2f}, {local_after:+.2f}.",
        {
            **vars(capture),
            "word": capture.word,
            "local_before": local.before,
            "local_after": local.after,
        },
    )


def _moved(found: Comparison) -> Finding:
    numbers: dict[str, int] = {}
    for key, name in (("local", LOCAL), ("target", TARGET)):
        moved, change = _joined(found, "moved", name).astype(bool), _joined(found, "change", name)
        numbers |= {f"{key}_rose": int((moved & (change > 0)).sum())}
        numbers |= {f"{key}_fell": int((moved & (change < 0)).sum())}
    still = ~(_joined(found, "moved", LOCAL).astype(bool) | _joined(found, "moved", TARGET))
    return Finding(
        "From the first to the last, beyond errors, peer predictability rises in {local_rose:,} "
        "channels and falls in {local_fell:,}; task information rises in {target_rose:,} and falls "
        "in {target_fell:,}. In {still:,} channels no change of either is resolved.",
        {**numbers, "still": int(still.sum())},
    )


def _price(found: Comparison) -> Finding:
    numbers = {
        f"{when}_{name}": median(_joined(found, when, name))
        for when in ("before", "after")
        for name in (ALONE, RECOVERED)
    }
    return Finding(
        "Held at its mean, the median channel is foretold to cost the prediction "
        "{before_damage_alone:.2g} nats in the first and {after_damage_alone:.2g} in the last; "
        "peers win back {before_recovered:.0%} and {after_recovered:.0%} of it.",
        numbers,
    )


def _turns(found: Comparison) -> Finding:
    replaceable = sum(len(found.turned(layer)) for layer in found.matched)
    relevant = sum(len(found.turned(layer, to="relevant")) for layer in found.matched)
    return Finding(
        "Channels that turn from relevant to replaceable (task information falls, peer "
        "predictability rises, both beyond errors): {turned:,}; the other way: {back:,}.",
        {"turned": replaceable, "back": relevant},
    )
