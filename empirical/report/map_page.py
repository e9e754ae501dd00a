"""The map of channels as a chapter of a report, and as a page of its own."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from empirical.analysis.measured_damage import (
    MEASURED,
    MEASURED_ALONE,
    NOTHING,
    MeasuredDamage,
    measured_damage,
)
from empirical.analysis.standing import ALL, NONE, UNRESOLVED, WHY, clear, interval, standing_in
from empirical.lesions.table import LesionTable
from empirical.measuring.damage_table import ALONE, DAMAGES, RECOVERED
from empirical.measuring.table import AxisTable
from empirical.pruning.what_if import RemovalPlan
from empirical.report.channel_map import Side, judged, map_file, map_payload
from empirical.report.page import Section, page_html
from empirical.report.plan import plan_payload
from empirical.report.wording import words
from theory import quantities
from theory.shared.files import write_text
from theory.shared.findings import Finding
from theory.shared.validation import path_of

TITLE = "Every channel on the map"

BESIDE = "conditional_task_information"

Plan = Mapping[str, Any]
"""What `plan_payload` returns."""

Lesions = LesionTable | pd.DataFrame
"""What `lesion` or `replace` returned, or its frame."""


def write_map(
    path: str | os.PathLike[str],
    table: AxisTable,
    *,
    plan: RemovalPlan | None = None,
    lesions: Sequence[Lesions] = (),
    title: str = "The channels of a network",
) -> Path:
    """Write a table as one page to explore: a map of all channels, in one file.

    The page asks for nothing from elsewhere, works from disk, and says its main points without
    script.

    Parameters
    ----------
    path : the HTML file
    table : from `measure`; with ``damage=True`` the page also says what the prediction loses
    plan : from `removal_plan`, for the sliders that say what would go and what it would cost
    lesions : what `lesion` and `replace` returned, for damages measured beside foretold ones
    title : of the page

    Raises
    ------
    TypeError
        no table
    """
    section = map_section(table, plan=None if plan is None else plan_payload(plan), lesions=lesions)
    lead = "What each channel carries, who could stand in for it, and what its removal costs."
    return write_page(path, title, lead, section)


def write_page(path: str | os.PathLike[str], title: str, lead: str, section: Section) -> Path:
    """Write a chapter that holds a map as a page of its own, in one file."""
    content = {
        "title": "What was found",
        "note": section.note,
        "findings": [str(finding) for finding in section.findings],
        "maps": list(section.maps.values()),
        "figures": [],
        "shown": [],
        "empty": [],
        "tables": [],
    }
    file = path_of("path", path)
    write_text(file, page_html(title, lead, [content], files=False))
    return file


def map_section(
    table: AxisTable,
    *,
    plan: Plan | None = None,
    lesions: Sequence[Lesions] = (),
    stem: str = "channels",
    about: str = "",
) -> Section:
    """The chapter: five sentences, then the map.

    Parameters
    ----------
    table, lesions : as for `write_map`
    plan : from `plan_payload`
    stem : of the map's file
    about : which network on which images
    """
    measured = measured_damage(table, *lesions)
    payload = map_payload(table, plan, measured)
    known = quantities() | DAMAGES
    sides = [Side(known[n], judged(table, known[n])[0][None]) for n in payload["start"]]
    caption = "Layers: medians over their channels"
    return Section(
        TITLE,
        note=about,
        findings=map_findings(table, plan, measured),
        maps={stem: map_file(payload, table.describe(), sides, caption)},
    )


def map_findings(
    table: AxisTable, plan: Plan | None = None, measured: MeasuredDamage = NOTHING
) -> list[Finding]:
    """What was measured, what was found, what may go at what price, and what is not resolved."""
    price = _price(table, plan)
    if MEASURED_ALONE in measured.values and table.damage:
        lesioned = _lesioned(table, measured)
        price = Finding(
            f"{price.template} {lesioned.template}", dict(price.values) | dict(lesioned.values)
        )
    return [_measured(table), _peers(table), _target(table), price, _doubts(table)]


def _lesioned(table: AxisTable, measured: MeasuredDamage) -> Finding:
    """How far lesions bear out what was foretold."""
    found, _, doubt = judged(table, MEASURED[MEASURED_ALONE], measured)
    foretold = judged(table, DAMAGES[ALONE])[0]
    both = np.isfinite(found) & np.isfinite(foretold)
    total = float(foretold[both].sum())
    return Finding(
        "Measured by lesions, one at a time, {lesioned:,} channels cost in sum {ratio:.2f} times "
        "what was foretold; {resolved:,} cost more than nothing.",
        {
            "lesioned": int(both.sum()),
            "resolved": int((both & ~doubt).sum()),
            "ratio": float(found[both].sum()) / total if total > 0 else float("nan"),
        },
    )


def _count(table: AxisTable) -> int:
    return sum(axes.signal_power.size for axes in table.axes.values())


def _measured(table: AxisTable) -> Finding:
    settings = table.settings
    pooled = settings.get("sampling") == "pooled"
    samples = "as means over each map" if pooled else "at random positions of each map"
    return Finding(
        "Measured: {channels:,} channels of {layers} layers on {images:,} images, {samples}; what "
        "they say about the task is information about the target: {target}.",
        {
            "channels": _count(table),
            "layers": len(table.axes),
            "images": settings.get("n_images", 0),
            "target": words(settings.get("target", "none")),
            "samples": samples,
        },
    )


def _peers(table: AxisTable) -> Finding:
    values, errors, _ = judged(table, quantities()["peer_predictability"])
    wide = clear(table.settings.get("groups"))
    found = [standing_in(interval(v, e, wide)) for v, e in zip(values, errors, strict=True)]
    known = [word for word in found if word != UNRESOLVED]
    if not known:
        return Finding("How far peers could stand in for channels is not resolved for any channel.")
    return Finding(
        "Peers predict nine tenths or more of the variance of {all:.0%} of the channels, less than "
        "a tenth of {none:.0%}, and something between of {part:.0%}; {open:.0%} are not resolved.",
        {
            "all": found.count(ALL) / len(found),
            "none": found.count(NONE) / len(found),
            "part": (len(known) - known.count(ALL) - known.count(NONE)) / len(found),
            "open": found.count(UNRESOLVED) / len(found),
        },
    )


def _target(table: AxisTable) -> Finding:
    values, errors, doubt = judged(table, quantities()[BESIDE])
    known = np.isfinite(values)
    if not known.any():
        return Finding("What channels say about the target beyond their peers is not resolved.")
    if not np.isfinite(errors).any():
        return Finding(
            "The median channel says {middle:.2g} nats about the target that no peer says; "
            "without standard errors nothing is said of single channels.",
            {"middle": float(np.median(values[known]))},
        )
    return Finding(
        "{share:.0%} of the channels say something about the target that no peer says, beyond "
        "their errors; the median is {middle:.2g} nats.",
        {"share": float((known & ~doubt).mean()), "middle": float(np.median(values[known]))},
    )


def _price(table: AxisTable, plan: Plan | None) -> Finding:
    if plan is not None:
        text = (
            "{%sunits:,} channels leave {%smacs:.0%%} of the multiply-accumulates and are foretold "
            "to cost {%sloss:.2g} nats"
        )
        keys = [f"price{number}_" for number in range(len(plan["prices"]))]
        return Finding(
            "What may go, the cheapest first: " + "; ".join(text % (k, k, k) for k in keys) + ".",
            {
                key + name: value
                for key, price in zip(keys, plan["prices"], strict=True)
                for name, value in price.items()
            },
        )
    if table.damage:
        alone, _, doubt = judged(table, DAMAGES[ALONE])
        back = judged(table, DAMAGES[RECOVERED])[0]
        known = np.isfinite(back)
        won = "; of the others peers win back {back:.0%} in the median" if known.any() else ""
        return Finding(
            "What single channels cost: of {share:.0%} the loss alone is not told from nothing"
            + won
            + ". Costs of several do not add up.",
            {
                "share": float(doubt[np.isfinite(alone)].mean()),
                "back": float(np.median(back[known])) if known.any() else float("nan"),
            },
        )
    return Finding("What removal costs was not measured: damage=True foretells it.")


def _doubts(table: AxisTable) -> Finding:
    kinds: dict[str, int] = {}
    for axes in table.axes.values():
        for kind, members in axes.affected.items():
            kinds[kind] = kinds.get(kind, 0) + len(members)
    listed = _listed([f"{words(kind)} {number:,} ({WHY[kind]})" for kind, number in kinds.items()])
    left = f" {len(table.skipped)} layers were left out: {_listed(list(table.skipped))}." * bool(
        table.skipped
    )
    open_, shares = _unresolved(table)
    return Finding(
        open_ + (f" Special: {listed}." if kinds else " No channel is special.") + left,
        dict(kinds) | shares,
    )


def _unresolved(table: AxisTable) -> tuple[str, dict[str, float]]:
    """Of how many channels the main quantities are not told from the bottom of their range."""
    if not any(table.replicates.values()):
        return "There are no standard errors, so no interval stands by a value.", {}
    asked = [quantities()["task_information"], *([DAMAGES[ALONE]] if table.damage else [])]
    shares = {}
    for about in asked:
        values, _, doubt = judged(table, about)
        known = np.isfinite(values)
        if known.any():
            shares[f"open_{about.name}"] = float(doubt[known].mean())
    texts = [f"{words(n.removeprefix('open_'))} of {{{n}:.0%}}" for n in shares]
    if not texts:
        return "Nothing is resolved.", {}
    return f"Not told from zero: {' and '.join(texts)} of the channels.", shares


def _listed(names: Sequence[str], most: int = 4) -> str:
    """The first names, and how many more there are.

    >>> _listed(["a", "b", "c"], most=2)
    'a, b and 1 more'
    """
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more
