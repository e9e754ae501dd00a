"""Planted products: shares of the spread come out as planted, and scores add what they add."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from empirical.analysis.damage_factors import PARTS, SCORES, analyze_factors
from empirical.analysis.missing import NoDataError
from empirical.lesions.foretold import Agreement
from empirical.report.damage_factors import damage_factors_section

SD = {"alone": 1.0, "peers": 0.6, "sampling": 0.3, "beyond": 0.4}


def planted(rng, n, layers=3, added=0.0, sd=SD, noise=0.2):
    """Log damage of known parts; measured with errors, as the factors and the scores are."""
    law, scores = [], []
    for layer in range(layers):
        a, s, e, error, own = rng.standard_normal((5, n))
        a, s = sd["alone"] * a, -2 + sd["peers"] * s
        support = -s + 0.5 * own  # peers predict well what they recover
        measured = a + s + sd["beyond"] * e + sd["sampling"] * error + added * own
        foretold_error = noise * rng.standard_normal((2, 2, n))  # halves, factors
        halves = {
            "damage_alone": np.exp(a + foretold_error[:, 0]),
            "recovered": 1 - np.exp(s + 0.5 * foretold_error[:, 1]),
            "peer_predictability": support + noise * rng.standard_normal((2, n)),
        }
        frame = pd.DataFrame({"layer": f"l{layer}", "channel": np.arange(n)})
        for name, values in halves.items():
            frame[name] = values.mean(axis=0)
            frame[f"{name}_half0"], frame[f"{name}_half1"] = values
        scores.append(frame)
        alone = np.exp(a + foretold_error[:, 0].mean(0))
        peers = np.exp(a + s + foretold_error[:, 0].mean(0) + 0.5 * foretold_error[:, 1].mean(0))
        for kind, foretold, found in (
            ("mean", alone, np.exp(a)), ("all", peers, np.exp(measured)),
        ):  # fmt: skip
            law.append(
                pd.DataFrame(
                    {
                        "layer": f"l{layer}", "channel": [str(c) for c in range(n)], "kind": kind,
                        "foretold": foretold, "foretold_se": 0.01 * foretold,
                        "measured": found, "measured_se": sd["sampling"] * found,
                    }
                )
            )  # fmt: skip
    return Agreement(pd.concat(law, ignore_index=True), pd.DataFrame()), pd.concat(scores)


TESTED = ["peer_predictability"]


def test_shares_of_the_spread_are_those_that_were_planted():
    rng = np.random.default_rng(0)
    found = [analyze_factors(*planted(rng, 40), tested=TESTED, draws=60, seed=k) for k in range(20)]
    total = sum(v * v for v in SD.values())
    for name in PARTS:
        expected = SD[name] ** 2 / total
        values = np.array([f.pooled[name].iloc[0] for f in found])
        assert abs(values.mean() - expected) < 4 * values.std() / np.sqrt(len(found)) + 0.01
        inside = [
            f.pooled[f"{name}_low"].iloc[0] <= expected <= f.pooled[f"{name}_high"].iloc[0]
            for f in found
        ]
        assert name == "sampling" or sum(inside) >= 15  # 95 % of 20 are 19
    first = found[0]
    np.testing.assert_allclose(first.layers[list(PARTS)].sum(axis=1), 1)
    spread = np.mean([f.pooled["spread"].iloc[0] for f in found])
    assert spread == pytest.approx(np.sqrt(total - SD["sampling"] ** 2), rel=0.05)
    error = np.mean([f.pooled["law_error"].iloc[0] for f in found])
    # foretold errors of the mean of two halves, .2 and .1, are said to be .01
    assert error == pytest.approx(np.sqrt(0.4**2 + (0.2**2 + 0.1**2) / 2), rel=0.1)


@pytest.mark.parametrize(("added", "least", "most"), [(0.0, 0, 4), (0.5, 10, 20)])
def test_a_score_adds_to_the_factors_what_was_planted_and_nothing_else(added, least, most):
    """Of 20 tests without an effect 1 falls below .05 in the mean, more than 4 in 1 of 400."""
    rng = np.random.default_rng(1)
    found = [
        analyze_factors(*planted(rng, 40, added=added), tested=TESTED, draws=20).added.iloc[0]
        for _ in range(20)
    ]
    assert least <= sum(row["p"] < 0.05 for row in found) <= most
    assert all(row["halves"] for row in found)


def test_the_chapter_says_what_divides_the_spread_and_what_was_left_out():
    law, scores = planted(np.random.default_rng(2), 40)
    low = law.channels["layer"].eq("l1") & law.channels["channel"].isin([str(c) for c in range(35)])
    law.channels.loc[low, "measured_se"] = 9.0
    scores["hull_score"] = np.arange(len(scores)) % 7.0
    scores["hull_score_half0"] = scores["hull_score_half1"] = np.nan
    found = analyze_factors(law, scores, tested=[*TESTED, "hull_score"], draws=50)
    assert list(found.skipped) == ["l1"]
    claim, error, depth, added = map(str, damage_factors_section(found).findings)
    assert "both factors count: holds" in claim
    assert "80 channels" in claim
    assert "scatters about that by" in error
    assert depth.startswith("Along the network: what peers cannot supply accounts for")
    assert "Beyond both factors no score adds" in added
    assert "Errors of hull score were not measured: no verdict." in added
    nothing = planted(np.random.default_rng(3), 40, sd=SD | {"peers": 0.0, "alone": 0.3})
    text = str(damage_factors_section(analyze_factors(*nothing, tested=TESTED)).findings[0])
    assert "count: not resolved" in text or "count: contradicted" in text


def test_without_replacements_or_clear_damages_there_is_nothing_to_divide():
    law, scores = planted(np.random.default_rng(4), 20, layers=1)
    only = Agreement(law.channels[law.channels["kind"] == "mean"], law.layers)
    with pytest.raises(NoDataError, match="no channel was replaced by all"):
        analyze_factors(only, scores, tested=SCORES)
    law.channels["foretold_se"] = 99.0
    with pytest.raises(NoDataError, match="no layer has 8 channels whose damage"):
        analyze_factors(law, scores)
