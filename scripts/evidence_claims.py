"""Every claim on one kind of network: verdict, effect and interval, by the rules of the reports."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
import pandas as pd

from empirical.analysis.couplings import BETWEEN, mean_couplings, of_pair
from empirical.analysis.damage import pooled_recovery
from empirical.analysis.missing import NoDataError
from empirical.analysis.pruning import axis_verdicts
from empirical.analysis.rankings import ranking_gap
from empirical.analysis.seeds import CORRELATION, LEAST, SHARE, over_networks
from empirical.data.tables import read_table
from empirical.report.coupling import coupling_findings
from empirical.report.flow import ACROSS, WITHIN
from empirical.report.grouping import grouping_findings
from empirical.report.intervention import AXES, apart
from empirical.report.lesion import recovery_findings
from empirical.report.structure import communities_finding, trend_finding
from scripts.evidence_networks import LAW, SCORES, TUNED, Networks, NotRunError
from theory.shared.findings import Estimate, verdict, weakest

BOTH = (-2.0, 2.0)
"""Where differences of two correlations lie."""
PUBLISHED = 0.18
"""Upper end of the mean absolute cosines that are published for hidden layers (C8)."""
NOT_RUN = "not run"
NOWHERE = Estimate(np.nan, np.nan, np.nan)

Found = tuple[int, str, str, Estimate]
"""Networks, verdict, effect in words, and the estimate that the verdict is drawn from."""


@dataclass(frozen=True)
class Claim:
    """A cell of the table."""

    claim: str
    network: str
    data: str
    networks: int
    epochs: float
    word: str
    effect: str
    mean: float
    low: float
    high: float


def all_claims(every: Sequence[Networks]) -> Iterator[Claim]:
    """Every claim of every kind of network; what was not run says so.

    Where several folders have networks of a kind on a data set, a claim is judged on that with
    the most of them that have what it needs.
    """
    finders = CLAIMS | {"C7 ranking depends on the network": partial(ranked, every=every)}
    for name, find in finders.items():
        for own in _kinds(every, lambda one: (one.data, one.network)):
            found = [(_claim(name, one, find), one) for one in own]
            yield max(found, key=lambda pair: _ground(*pair))[0]
    for kind in _kinds(every, lambda one: (one.network,)):
        found = [
            _claim("C6 same direction elsewhere", own[0], partial(elsewhere, own=own))
            for own in _kinds(kind, lambda one: (one.folder.parent.parent,))
        ]
        yield replace(max(found, key=lambda claim: claim.networks), data="both")


def _kinds(
    every: Sequence[Networks], key: Callable[[Networks], tuple[object, ...]]
) -> list[list[Networks]]:
    """Those of one key together, in order of appearance."""
    found: dict[tuple[object, ...], list[Networks]] = {}
    for one in every:
        found.setdefault(key(one), []).append(one)
    return list(found.values())


def _ground(claim: Claim, one: Networks) -> tuple[int, bool, bool, int]:
    """How much a cell stands on: networks judged, anything run, an effect, networks lesioned."""
    lesioned = len(one.seeds("lesions/lesions.csv"))
    return claim.networks, claim.effect != NOT_RUN, bool(np.isfinite(claim.mean)), lesioned


def _claim(name: str, one: Networks, find: Callable[[Networks], Found]) -> Claim:
    try:
        networks, word, effect, estimate = find(one)
    except NotRunError:
        networks, word, effect, estimate = 0, "not resolved", NOT_RUN, NOWHERE
    except NoDataError as reason:
        networks, word, effect, estimate = 0, "not resolved", str(reason), NOWHERE
    if networks < LEAST:
        word = "not resolved"
    ends = vars(estimate)
    return Claim(name, one.network, one.data, networks, one.epochs, word, effect, **ends)


def _unreliable(one: Networks) -> Found:
    """Lesions were made, and in no layer are the scores reliable enough to be judged by."""
    middle = one.lesioned_reliability["task_information"].median()
    effect = (
        "no layer of enough channels has reliable scores (networks lesioned: "
        f"{one.lesions['seed'].nunique()}); task information agrees with itself by {middle:.2f} in "
        "the median layer"
    )
    return 0, "not resolved", effect, NOWHERE


def coupled(one: Networks) -> Found:
    """C1 of input capture and task information."""
    found = coupling_findings(one.couplings)[-2].values
    start, fall = found["coupling"], found["coupling_fall"]
    effect = f"start {start:+.2f}, fall {fall:+.2f}"
    return one.couplings["seed"].nunique(), found["word"], effect, fall


def intervened(one: Networks) -> Found:
    """C1 of relevance and replaceability."""
    if of_pair(one.couplings, AXES).empty:
        raise NotRunError("no foretold damages")
    found = apart(one.couplings).values
    start = of_pair(mean_couplings(one.couplings), AXES).sort_values("step").iloc[0]
    begin = Estimate(start["coupling"], start["low"], start["high"])
    effect = f"start {begin:+.2f}, fall {found['coupling']:+.2f}"
    return one.couplings["seed"].nunique(), found["word"], effect, found["coupling"]


def grouped(one: Networks) -> Found:
    """C2 of the trained networks."""
    rows = one.table("digest/groupings.csv")
    found = grouping_findings(rows[rows["step"] == rows["step"].max()])[0].values
    effect = f"between {found['between'].mean:.2f}, lesser own less that {found['gap']:+.2f}"
    return found["seeds"], found["word"], effect, found["gap"]


def early(one: Networks) -> Found:
    """C3, where there is a fall that could be early."""
    whole, found = (finding.values for finding in coupling_findings(one.couplings)[-2:])
    effect = (
        f"by step {found['tenth']} of {found['last']} {found['first']:+.2f}, less half of all "
        f"{found['early']:+.2f}"
    )
    if not whole["coupling_fall"].low > 0:
        effect = f"{effect}, but no fall is shown"
    return one.couplings["seed"].nunique(), found["word"], effect, found["early"]


def beyond(one: Networks) -> Found:
    """C4: peers, beyond capture and information."""
    networks, findings = one.analysis
    if not findings:
        return _unreliable(one)
    found = findings[0].values
    effect = f"slope {found['slope']:+.2f}, {found['layers']} layers"
    return networks, found["word"], effect, found["slope"]


def replaced(one: Networks) -> Found:
    """C4: chosen peers win back more than random ones."""
    rows = one.table("lesions/replacements.csv")
    values = [finding.values for finding in recovery_findings(pooled_recovery(rows))]
    gain = next(v["gain"] for v in values if "gain" in v)
    said = ", ".join(f"{kind} {share.mean:.0%}" for kind, share in values[0].items())
    return rows["seed"].nunique(), verdict(gain), f"{gain:+.0%} of the damage ({said})", gain


def factored(one: Networks) -> Found:
    """C4 restated: damage beside the peers is relevance times what peers cannot supply."""
    alone, peers, both = (over_networks(one.factors[name]) for name in ("alone", "peers", "both"))
    half = Estimate(both.mean - 0.5, both.low - 0.5, both.high - 0.5)
    effect = (
        f"both account for {both:.0%} of the spread of log damage, relevance for {alone:.0%}, what "
        f"peers cannot supply for {peers:.0%}"
    )
    return (
        len(one.factors),
        weakest(verdict(alone), verdict(peers), verdict(both, half)),
        effect,
        both,
    )


def foretold(one: Networks) -> Found:
    """The law of damage against the best single score, by rank with the measured damage."""
    table = one.damage_ranks
    law = over_networks(table[LAW[0]], CORRELATION)
    best = str(table[list(SCORES)].mean().idxmax())
    lead = over_networks(table[LAW[0]] - table[list(SCORES)].max(axis=1), BOTH)
    said = f"law {law.mean:+.2f}, {best.replace('_', ' ')} {table[best].mean():+.2f}"
    return len(table), verdict(lead), f"{said}; lead {lead:+.2f}", lead


def hull(one: Networks) -> Found:
    """The hull as the strongest predictor at matched task information."""
    networks, findings = one.analysis
    if not findings:
        return _unreliable(one)
    found = findings[-1].values
    if "lead" not in found:
        raise NotRunError("no hulls")
    said = f"hull {found['hull'].mean:+.2f}, rival {found['rival'].mean:+.2f}"
    effect = f"{said}; lead {found['lead']:+.2f}"
    return networks, found["word"], effect, found["lead"]


def axes(one: Networks) -> Found:
    """C5 without training on: mean over the settings."""
    verdicts = axis_verdicts(one.areas[one.areas["recovery"] != TUNED])
    if verdicts.empty:
        raise NotRunError("no setting with both axes")
    row = verdicts.iloc[0]
    found = Estimate(row["difference"], row["low"], row["high"]).times(100)
    return int(row["seeds"]), verdict(found), f"{found:+.1f} points", found


def tuned(one: Networks) -> Found:
    """C5 after fine-tuning, of one score each."""
    own = one.areas[one.areas["recovery"] == TUNED]
    wide = own.pivot_table(index="seed", columns="criterion", values="area")
    local, target = "input_capture", "task_information"
    if not {local, target} <= set(wide):
        raise NotRunError("not fine-tuned")
    difference = ((wide[local] - wide[target]) * 100).dropna()
    found = over_networks(difference)
    return len(difference), verdict(found), f"{found:+.1f} points", found


def ranked(one: Networks, every: Sequence[Networks]) -> Found:
    """C7: trainings of one network agree more on criteria than trainings of two networks."""
    seeds = one.areas["seed"].nunique()
    tables = [other.areas for other in every if other.data == one.data and other.has_pruned]
    table = pd.concat(tables)
    found = ranking_gap(table[table["recovery"] != TUNED], one.network)
    if np.isnan(found.mean):
        raise NotRunError("no other network, or one seed")
    return seeds, verdict(found), f"own rankings less others' {found:+.2f}", found


def gradients(one: Networks) -> Found:
    """C8: hidden layers below the first, and below the published upper end."""
    files = [sorted(folder.glob("step-*.csv")) for folder in one.seeds("gradients").values()]
    tables = [read_table(own[-1])["mean_absolute_cosine"] for own in files if len(own) > 1]
    if not tables:
        raise NotRunError("no gradients")
    first, hidden = (np.array(v) for v in zip(*((t[0], t[1:].mean()) for t in tables), strict=True))
    lower, inside = over_networks(first - hidden), over_networks(PUBLISHED - hidden)
    ends = [over_networks(values, SHARE) for values in (hidden, first)]
    effect = f"hidden {ends[0]:.2f}, first {ends[1].mean:.2f}"
    return len(tables), verdict(lower, inside), effect, lower


def triples(one: Networks) -> Found:
    """S3/S2 with depth."""
    rows = one.structure.dropna(subset=["ratio"])
    found = trend_finding(rows.assign(resolved=rows["resolved"].astype(bool))).values
    effect = f"trend {found['trend']:+.2f}, mean ratio {found['ratio']:.2f}"
    if np.isnan(found["trend"].mean):
        effect = "fewer than four layers say more than an independent target"
    return rows["seed"].nunique(), found["word"], effect, found["trend"]


def communities(one: Networks) -> Found:
    """Modularity of the overlap graph less that of the excess graph, both beyond degrees."""
    rows = one.structure.dropna(subset=["more"])
    found = communities_finding(rows).values
    effect = f"{found['mean']:+.2f}, {found['above']} of {found['layers']} layers by themselves"
    return rows["seed"].nunique(), found["word"], effect, found["mean"]


def flowing(one: Networks) -> Found:
    """Both axes hand themselves on."""
    parts = [over_networks(one.flow.loc[pair], BOTH) for pair in WITHIN]
    word = weakest(*map(verdict, parts))
    effect = ", ".join(f"{pair[0]} {part:+.2f}" for pair, part in zip(WITHIN, parts, strict=True))
    return one.flow.shape[1], word, effect, over_networks(one.flow.loc[list(WITHIN)].mean(), BOTH)


def separate(one: Networks) -> Found:
    """More flows within an axis than across."""
    within, across = (one.flow.loc[list(pairs)] for pairs in (WITHIN, ACROSS))
    more = over_networks(within.mean() - across.abs().mean(), (-3.0, 3.0))
    said = ", ".join(f"{a} to {b} {one.flow.loc[(a, b)].mean():+.2f}" for a, b in ACROSS)
    return one.flow.shape[1], verdict(more), f"{more:+.2f} ({said})", more


def elsewhere(_: Networks, own: Sequence[Networks]) -> Found:
    """C6: the coupling of the axes falls on each data set."""
    if len(own) < 2:
        raise NotRunError("one data set")
    falls = []
    for one in own:
        by_step = of_pair(one.couplings, BETWEEN).groupby(["seed", "step"])["coupling"].mean()
        wide = by_step.unstack()
        falls.append(over_networks(wide.iloc[:, 0] - wide.iloc[:, -1], BOTH))
    effect = ", ".join(f"{one.data} {fall:+.2f}" for one, fall in zip(own, falls, strict=True))
    seeds = min(one.couplings["seed"].nunique() for one in own)
    least = min(falls, key=lambda fall: fall.mean)
    return seeds, weakest(*map(verdict, falls)), f"fall {effect}", least


CLAIMS: dict[str, Callable[[Networks], Found]] = {
    "C1 coupled, then apart": coupled,
    "C1 relevance and replaceability": intervened,
    "C2 other groups": grouped,
    "C3 early": early,
    "C4 E beyond": beyond,
    "C4 chosen peers replace": replaced,
    "C4 relevance times replaceability": factored,
    "C5 local before target": axes,
    "C5 after fine-tuning": tuned,
    "C8 gradients apart": gradients,
    "hull first at matched I_T": hull,
    "triples gain with depth": triples,
    "overlap graph more modular": communities,
    "both axes handed on": flowing,
    "more within axes than across": separate,
    "law foretells damage best": foretold,
}
