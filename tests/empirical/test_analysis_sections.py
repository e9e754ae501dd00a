"""Tables and wording of the chapters follow from planted numbers."""

import pandas as pd
import pytest

from empirical.analysis.damage import pooled_recovery
from empirical.report.grouping import grouping_findings
from empirical.report.lesion import lesion_section
from empirical.report.pruning import pruning_section
from empirical.report.robustness import robustness_section
from empirical.report.training import accuracy_finding


@pytest.mark.parametrize(
    ("between", "shared", "verdict"),
    [
        (0.05, 0.9, "holds (lesser"),
        (0.6, 0.9, "holds in direction (lesser"),
        (0.3, 0.3, "contradicted (lesser"),
        (0.9, 0.6, "contradicted (lesser"),
    ],
)
def test_groupings_differ_only_where_other_images_give_each_again(between, shared, verdict):
    frame = pd.DataFrame(
        [
            {
                "seed": seed,
                "layer": "a",
                "between": between + 0.01 * seed * (-1) ** seed,
                "shared": shared,
                "local": shared,
                "target": 0.95,
            }
            for seed in (0, 1, 2)
        ]
    )
    assert verdict in str(grouping_findings(frame)[0])
    one = str(grouping_findings(frame[frame["seed"] < 2])[0])
    assert "not resolved" in one
    assert "[no interval]" in one


def test_robustness_names_the_farthest_variation():
    pair = {"first": "input_capture", "second": "task_information"}
    variations = pd.DataFrame(
        [
            {"variation": name, "coupling": value, "seed": 0, **pair}
            for name, value in (("as measured", 0.1), ("target: label", 0.5), ("noise: mean", 0.1))
        ]
    )
    counts = pd.DataFrame(
        [{"groups": g, "images": g / 4, "coupling": g / 10, "seed": 0, **pair} for g in range(1, 5)]
    )
    first, second = map(str, robustness_section(variations, counts).findings)
    assert "the farthest is “target: label”, +0.50" in first
    assert "over the 1 variations that change it (1 others cannot" in first
    assert second == "From 25% of the images it is +0.10, from half +0.20, from all +0.40."


def recovered_by_hand():
    """Three seeds; peers win back .9, .8 and .7 of the damage, random ones .2 less."""
    rows = [
        {
            "seed": seed, "layer": "a", "channel": channel, "kind": kind,
            "predicted": 0.5 + channel / 4, "mean_lesion": 1.0 + 2 * channel,
            "loss_increase": (0.1 + 0.1 * seed + 0.2 * (kind == "random")) * (1.0 + 2 * channel),
        }
        for seed in (0, 1, 2)
        for kind in ("all", "hull", "random")
        for channel in (0, 1)
    ]  # fmt: skip
    return pd.DataFrame(rows)


def test_recovery_is_of_the_summed_damage_and_its_prediction_weighted_alike():
    first = pooled_recovery(recovered_by_hand()).iloc[0]
    assert (first["seed"], first["layer"], first["peers"]) == (0, "a", "all")
    assert first["mean_lesion"] == pytest.approx(4.0)
    assert first["recovered"] == pytest.approx(0.9)
    assert first["predicted"] == pytest.approx((0.5 * 1 + 0.75 * 3) / 4)


def test_the_lesion_chapter_names_the_best_score_and_the_gain_of_chosen_peers():
    scores = ("input_capture", "task_information", "peer_predictability")
    rows = [
        {"seed": seed, "layer": "a", "channel": c, "kind": "mean", "loss_increase": float(c)}
        | {"conditional_task_information": float(c)}
        | {name: float((c * (3 + i + seed)) % 7) for i, name in enumerate(scores)}
        for seed in (0, 1, 2)
        for c in range(7)
    ]
    findings = lesion_section(pd.DataFrame(rows), recovered_by_hand()).findings
    texts = [str(finding) for finding in findings]
    assert texts[0] == (
        "Losing one channel, set to its mean, raises the loss by 3.000 [3.000, 3.000] nats in the "
        "mean of a network's channels, 3.000 [3.000, 3.000] in the median, and 6.00 [6.00, 6.00] "
        "for the worst one."
    )
    assert "all 80% [55%, 105%]; hull 80% [55%, 105%]; random 60% [35%, 85%]." in texts[1]
    assert "beats random peer sets of equal size holds: +20.0% [+20.0%, +20.0%]" in texts[2]
    assert "win back 80%: recovered minus predicted is " in texts[3]
    assert findings[3].values["gap"].mean == pytest.approx(0.8 - 0.6875)
    assert texts[4].startswith("Damage of the mean lesion, rank correlation: input capture ")
    assert "conditional task information +1.00 [+1.00, +1.00]" in texts[4]


def test_the_pruning_chapter_pairs_recipes_by_seed():
    recipes = {
        ("task_replaceability", "auto"): 0.1,
        ("-local", "auto"): 0.08,
        ("target", "auto"): 0.0,
        ("random", "auto"): 0.01,
        ("l2", "none"): -0.05,
    }
    rows = [
        {
            "seed": seed, "criterion": name, "recovery": recovery, "draw": draw,
            "macs_requested": share, "macs_share": 1.01 * share,
            "accuracy": share + seed / 10 + gain + draw / 50,
        }
        for seed in (0, 1, 2)
        for (name, recovery), gain in recipes.items()
        for draw in range(2 if name == "random" else 1)
        for share in (0.3, 0.5)
    ]  # fmt: skip
    dense = {"criterion": "dense", "recovery": "none", "draw": 0}
    dense |= {"macs_requested": 1.0, "macs_share": 1.0}
    rows += [dense | {"seed": seed, "accuracy": 0.7 + seed / 10} for seed in (0, 1, 2)]
    section = pruning_section(pd.DataFrame(rows), "-local", "target")
    price, ahead, axis, random, counted = map(str, section.findings)
    # the mean of seeds adds 0.1; the two draws of random are at +.01 and +.03: one value, +.02
    assert "With 50% of the multiply-accumulates left, accuracy goes from 80.0% to 70.0% [" in price
    assert "local, recovered 68.0%; target, recovered 60.0%; random, recovered 62.0%" in price
    assert price.endswith("l2, as it is left 55.0%.")
    assert "random, recovered +8.0% [+8.0%, +8.0%] (holds)" in ahead
    assert "l2, as it is left +15.0% [+15.0%, +15.0%] (holds)." in ahead
    assert "least local (local axis)" in axis
    assert "holds (+8.0% [+8.0%, +8.0%] mean accuracy over the curve, paired over 3 seeds)" in axis
    assert "local +6.0% [+6.0%, +6.0%]; target -2.0% [-2.0%, -2.0%]." in random
    assert "between +1.0% and +1.0%" in counted
    half = section.tables["pruning_half"]
    assert half["recipe"][0] == "task replaceability, recovered"
    assert half["difference"][0] == 0
    assert half["before"].tolist() == pytest.approx([0.8] * 5)


def test_accuracy_is_that_of_the_last_step():
    frame = pd.DataFrame(
        {"step": [0, 9, 0, 9], "accuracy": [0.1, 0.8, 0.2, 0.9], "images": [50] * 4}
    )
    assert str(accuracy_finding(frame, "held-out")) == (
        "2 networks reach 85.0% accuracy on 50 held-out images (lowest 80.0%, highest 90.0%)."
    )
