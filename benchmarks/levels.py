"""Level and power of the tests behind the reports, where nothing is and where something is.

    python benchmarks/levels.py [--draws 2000] [--only WORD] [--out FOLDER]

Every row is one test in one scenario: the share of data sets in which it finds something at 0.05.
Where nothing is (level) that share ought to be 0.05 or less; where something is (power) it says
what the reports' sample sizes can show. With `--out`, finished rows are kept and read again. The
last line is one JSON object; `worst_level` is the largest level of all.

C4: layers of ResNet-18 of width 1/4 (5 each of 16, 32, 64 and 128 channels) or three layers alone.
Damage d and tested score e both depend on the controls, and e says nothing beyond: b, the second
control, is measured with the reliability stated. C2: networks of four layers, k-means as in the
report. C5: seeds of three architectures in six settings that share each seed's network.
"""

from __future__ import annotations

import argparse
import json
import math
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
from confounding import LEVEL, SHAPES, SLOPE, Found, c4
from levels_further import flowing, matched, ranked

from empirical.analysis.groupings import LOCAL_FEATURES, TARGET_FEATURES, layer_groupings
from empirical.analysis.predictors import compare_predictors
from empirical.analysis.pruning import AXES, axis_verdicts
from empirical.analysis.reliability import corrected_coupling
from empirical.analysis.seeds import CORRELATION, mean_difference, over_networks
from empirical.analysis.statistics import Stratum, effect, holm, mean_over_families, normal_scores
from empirical.measuring.table import AxisTable
from empirical.report.grouping import grouping_findings
from theory import QUANTITIES, ChannelAxes, coupling, spearman
from theory.shared.files import write_json

Case = tuple[str, str, str, Callable[[int], Found]]
"""Test, scenario, "level" or "power", and the outcomes of so many data sets."""


def predictors(draws: int, ahead: float = 0.0, family: int = 1, constant: bool = False) -> Found:
    """Whether the best of four scores is found ahead of all others.

    One may be constant in the last layer, where damage is then nobody's.
    """
    rng = np.random.default_rng(2)
    names = list("abcd")
    for _ in range(draws):
        layers = {}
        easy, hard = (1.0, 0.0) if constant else (0.3, 0.3)
        for name, n, common in (("x", 32, easy), ("y", 64, easy), ("z", 64, hard)):
            members = np.arange(n) // family
            shared, scores = (
                rng.standard_normal(n)[members],
                rng.standard_normal((4, n))[:, members],
            )
            scores[0] += ahead * shared
            frame = pd.DataFrame((common * shared + scores).T, columns=names)
            layers[name] = frame.assign(damage=shared, family=members)
        if constant:
            layers["z"]["a"] = 1.0
        found = compare_predictors(layers, "damage", names, 200, rng)
        yield bool((found["p_holm"].iloc[1:] < LEVEL).all())


def pairs(draws: int, of: str, effect_of_excess: float = 0.0, hub: float = 0.0) -> Found:
    """Whether pairs of high excess interact more; `hub` is what pairs of one channel share.

    As `empirical.analysis.pairs` tests it: eight layers of 12 pairs and as many controls.
    """
    rng = np.random.default_rng(3)
    layers, size = 8, 12
    family = np.repeat(np.arange(layers), size)
    for _ in range(draws):
        shape = (layers, 2 * size)
        high = np.argsort(rng.random((layers, 32)), axis=1)[:, :24].reshape(layers, size, 2)
        both = np.concatenate([high, rng.integers(32, size=(layers, size, 2))], axis=1)
        own = hub * rng.standard_normal((layers, 32))
        excess = np.repeat([1.0, 0.0], size) + 0.3 * rng.random(shape)
        single = rng.lognormal(size=shape)
        shared = np.take_along_axis(own[:, None], both, axis=2).sum(axis=2)
        found = effect_of_excess * excess + single * rng.standard_normal(shape) + shared
        if of == "contrast":
            difference = (found[:, :size] - found[:, size:]).ravel()
            yield mean_over_families(difference, family)[1] < LEVEL
        else:
            readings = normal_scores(np.stack([excess, single], axis=1))[:, None]
            scores, one = normal_scores(found), np.zeros(2 * size, dtype=int)
            strata = [Stratum(*layer, one) for layer in zip(scores, readings, strict=True)]
            yield bool(effect(strata).p < LEVEL)


def pairing(draws: int, channels: int, rho: float = 0.0) -> Found:
    """The permutation test of one layer's coupling."""
    rng = np.random.default_rng(4)
    for index in range(draws):
        x, y = rng.standard_normal((2, channels))
        y = rho * x + math.sqrt(1 - rho**2) * y
        yield coupling(x, np.exp(y), permutations=199, seed=index).p_value < LEVEL


def seeds(draws: int, networks: int, mean: float = 0.0, spread: float = 0.1) -> Found:
    """The interval over networks of a mean coupling, by Fisher's z."""
    rng = np.random.default_rng(5)
    for _ in range(draws):
        z = np.arctanh(mean) + spread * rng.standard_normal(networks)
        found = over_networks(np.tanh(z), CORRELATION)
        yield bool(found.low > 0 or found.high < 0)


def covered(draws: int, information: float, channels: int = 64) -> Found:
    """Miss of the interval of a corrected coupling; NaN where it is not resolved.

    1,000 images in ten groups; input capture and task information couple by 0.6.
    """
    rng = np.random.default_rng(6)
    groups, images = 10, 1000
    for _ in range(draws):
        x, y = rng.standard_normal((2, channels))
        capture, t = x, information * np.exp(0.6 * x + 0.8 * y)
        rho = np.sqrt(-np.expm1(-2 * t))
        error = rng.standard_normal((2, groups, channels)) / math.sqrt(images / groups)
        power, r = capture + math.sqrt(2) * error[0], rho + (1 - rho**2) * error[1]

        def measured(index: np.ndarray, power: np.ndarray = power, r: np.ndarray = r) -> np.ndarray:
            return np.array([power[index].mean(axis=0), r[index].mean(axis=0) ** 2])

        every = np.arange(groups)
        halves = np.stack([measured(every[0::2]), measured(every[1::2])], axis=1)
        without = np.stack([measured(np.delete(every, g)) for g in every], axis=1)
        found = corrected_coupling(halves[0], halves[1], (without[0], without[1]))
        truth = float(spearman(capture, t))
        yield float("nan") if math.isnan(found.low) else not found.low <= truth <= found.high


def grouped(draws: int, kind: str, noise: float, networks: int = 3, layers: int = 4) -> Found:
    """Whether the axes are found to group channels differently (C2).

    200 layers are grouped; networks are drawn from them with replacement.
    """
    rng = np.random.default_rng(7)
    measured = []
    for _ in range(min(200, draws)):
        n = 64
        groups, order = rng.integers(3, size=(2, n)), rng.standard_normal(n)
        axes = {
            "same groups": (2.0 * groups[0], 2.0 * groups[0]),
            "other groups": (2.0 * groups[0], 2.0 * groups[1]),
            "same order": (order, order),
            "noise": (0 * order, 0 * order),
        }[kind]
        halves = {q: np.full((2, n), np.nan) for q in QUANTITIES}
        for axis, names in zip(axes, (LOCAL_FEATURES, TARGET_FEATURES), strict=True):
            for name in names:  # the target axis is measured with twice the error
                error = noise * (1 + (names is TARGET_FEATURES))
                own = 0.1 * rng.standard_normal(n)
                halves[name] = axis + own + error * rng.standard_normal((2, n))
        whole = ChannelAxes(
            **{q: v.mean(axis=0) for q, v in halves.items()}, affected={}, noise_power=1.0, n=100
        )
        table = AxisTable({"l": whole}, {}, {}, {}, {}, {}, halves={"l": halves})
        measured.append(layer_groupings(table, permutations=1))
    rows = pd.concat(measured)
    for _ in range(draws):
        drawn = rows.iloc[rng.integers(len(rows), size=networks * layers)]
        (finding,) = grouping_findings(drawn.assign(seed=np.repeat(range(networks), layers)))
        yield str(finding.values["word"]).startswith("holds")


def pruned(draws: int, of: str, gain: float = 0.0) -> Found:
    """Local against target axis (C5): after Holm in any setting, in a network, over all."""
    rng = np.random.default_rng(8)
    names = [axis[0] for axis in AXES.values()]
    for _ in range(draws):
        # three architectures, six settings, three seeds; what a network's settings share, and not
        own = 0.02 * rng.standard_normal((3, 1, 3))
        difference = gain + own + 0.03 * rng.standard_normal((3, 6, 3))
        if of == "settings":
            p = [mean_difference(seeds)["p"] for seeds in difference.reshape(18, 3)]
            yield bool((holm(np.array(p)) < LEVEL).any())
        else:
            means = difference.mean(axis=1)  # settings enter with equal weight
            table = pd.DataFrame(
                {
                    "network": np.repeat(list("pqr"), 6),
                    "seed": np.tile(np.repeat(range(3), 2), 3),
                    "allocation": "uniform",
                    "recovery": "none",
                    "criterion": np.tile(names, 9),
                    "area": np.column_stack([means.ravel(), np.zeros(9)]).ravel(),
                }
            )
            found = axis_verdicts(table).set_index("network").loc[of]
            yield bool(found["low"] > 0 or found["high"] < 0)


def cases() -> list[Case]:
    """Every test in every scenario."""
    few = ((32,) * 3, (64,) * 3)
    found: list[Case] = []
    for kind in ("none", "linear", "strong", "product", "curved"):
        for reliability in (1.0, 0.95, 0.9, 0.8, 0.6):
            if kind != "none" or reliability == 1.0:
                name = f"{kind} confounding, reliability {reliability:g}"
                found.append(("C4", name, "level", partial(c4, kind=kind, reliability=reliability)))
    for kind in SHAPES:
        for reliability in (1.0, 0.9, 0.8):
            name = f"{kind} confounding, reliability {reliability:g}"
            found.append(("C4", name, "level", partial(c4, kind=kind, reliability=reliability)))
        name = f"{kind} confounding, 3 layers of 64"
        found.append(("C4", name, "level", partial(c4, kind=kind, sizes=few[1])))
    for family in (2, 4):
        for reliability in (1.0, 0.9):
            name = f"families of {family}, reliability {reliability:g}"
            run = partial(c4, family=family, reliability=reliability)
            found.append(("C4", name, "level", run))
    for damage in ("skewed", "tied"):
        for reliability in (1.0, 0.9):
            name = f"{damage} damages, reliability {reliability:g}"
            found.append(("C4", name, "level", partial(c4, damage=damage, reliability=reliability)))
    for sizes in few:
        for reliability in (1.0, 0.9):
            name = f"3 layers of {sizes[0]}, reliability {reliability:g}"
            found.append(("C4", name, "level", partial(c4, sizes=sizes, reliability=reliability)))
    for reliability in (1.0, 0.95, 0.9, 0.8, 0.6):
        name = f"slope {SLOPE}, reliability {reliability:g}"
        found.append(("C4", name, "power", partial(c4, slope=SLOPE, reliability=reliability)))
    name = f"3 layers of 64, slope {SLOPE}"
    found.append(("C4", name, "power", partial(c4, sizes=few[1], slope=SLOPE)))
    found += [
        ("best predictor", "four alike", "level", predictors),
        ("best predictor", "four alike, families of 4", "level", partial(predictors, family=4)),
        (
            "best predictor",
            "one constant where all are weak",
            "level",
            partial(predictors, constant=True),
        ),
        ("best predictor", "one ahead", "power", partial(predictors, ahead=0.4)),
        ("pairs, contrast", "none", "level", partial(pairs, of="contrast")),
        ("pairs, contrast", "hubs", "level", partial(pairs, of="contrast", hub=1.0)),
        ("pairs, contrast", "excess", "power", partial(pairs, of="contrast", effect_of_excess=0.8)),
        ("pairs, relation", "none", "level", partial(pairs, of="relation")),
        ("pairs, relation", "hubs", "level", partial(pairs, of="relation", hub=1.0)),
        ("pairs, relation", "excess", "power", partial(pairs, of="relation", effect_of_excess=0.8)),
        ("C1, one layer", "16 channels", "level", partial(pairing, channels=16)),
        ("C1, one layer", "128 channels", "level", partial(pairing, channels=128)),
        ("C1, one layer", "64 channels, 0.3", "power", partial(pairing, channels=64, rho=0.3)),
        ("C1, over seeds", "3 networks", "level", partial(seeds, networks=3)),
        ("C1, over seeds", "5 networks", "level", partial(seeds, networks=5)),
        ("C1, over seeds", "3 networks, 0.49", "power", partial(seeds, networks=3, mean=0.49)),
        ("C2", "same groups", "level", partial(grouped, kind="same groups", noise=0.5)),
        ("C2", "same groups, unreliable", "level", partial(grouped, kind="same groups", noise=1.5)),
        ("C2", "same order", "level", partial(grouped, kind="same order", noise=0.5)),
        ("C2", "noise", "level", partial(grouped, kind="noise", noise=1.0)),
        ("C2", "other groups", "power", partial(grouped, kind="other groups", noise=0.5)),
        ("C5, any of 18 settings", "none", "level", partial(pruned, of="settings")),
        ("C5, one architecture", "none", "level", partial(pruned, of="p")),
        ("C5, over all", "none", "level", partial(pruned, of="all")),
        ("C5, any of 18 settings", "5 points", "power", partial(pruned, of="settings", gain=0.05)),
        ("C5, one architecture", "5 points", "power", partial(pruned, of="p", gain=0.05)),
        ("C5, over all", "5 points", "power", partial(pruned, of="all", gain=0.05)),
    ]
    found += [
        ("flow between layers", "none", "level", flowing),
        ("flow between layers", "axes coupled in a layer", "level", partial(flowing, shared=0.6)),
        ("flow between layers", "as much as is new", "power", partial(flowing, arrives=1.0)),
        ("C7", "one ranking, 3 seeds", "level", ranked),
        ("C7", "one ranking, 5 seeds", "level", partial(ranked, seeds=5)),
        ("C7", "half of it its own", "power", partial(ranked, own=1.0)),
        ("best at matched I_T", "damage of I_T alone", "level", matched),
        ("best at matched I_T", "families of 4", "level", partial(matched, family=4)),
        ("best at matched I_T", "one ahead", "power", partial(matched, hull=0.5)),
    ]
    found += [
        ("coupling's interval", f"median I_T {t:g} nats", "miss", partial(covered, information=t))
        for t in (1e-4, 3e-4, 1e-3, 3e-3, 1e-2, 3e-2)
    ]
    return found


def main() -> None:
    """Run the cases and print their table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--draws", type=int, default=2000, help="data sets per row")
    parser.add_argument("--only", default="", help="rows whose test or scenario has this in it")
    parser.add_argument("--out", type=Path, help="folder that keeps finished rows")
    options = parser.parse_args()
    kept = options.out / f"levels-{options.draws}.json" if options.out else None
    rows = json.loads(kept.read_text("utf-8")) if kept and kept.exists() else {}
    print(f"{'test':24} {'scenario':40} {'':6} {'share':>6} {'resolved':>9} {'s':>5}")
    for test, scenario, what, run in cases():
        key = f"{test}: {scenario} ({what})"
        if options.only not in key:
            continue
        if key not in rows:
            begin = time.perf_counter()
            outcomes = np.array(list(run(options.draws)), dtype=float)
            known = outcomes[~np.isnan(outcomes)]
            rows[key] = {
                "test": test, "scenario": scenario, "what": what,
                "share": float(known.mean()) if known.size else None,
                "resolved": known.size / outcomes.size,
                "seconds": time.perf_counter() - begin,
            }  # fmt: skip
            if kept:
                write_json(kept, rows)
        row = rows[key]
        share = "-" if row["share"] is None else f"{row['share']:.3f}"
        print(f"{test:24} {scenario:40} {what:6} {share:>6} {row['resolved']:9.3f} "
              f"{row['seconds']:5.0f}", flush=True)  # fmt: skip
    levels = {key: row["share"] for key, row in rows.items() if row["what"] == "level"}
    worst = max(levels, key=lambda key: levels[key])
    print(json.dumps({"draws": options.draws, "worst_level": levels[worst], "where": worst}))


if __name__ == "__main__":
    main()
