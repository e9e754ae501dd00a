"""The evidence: what waits for what, and what its tables say of planted and of missing runs."""

import json

import numpy as np
import pandas as pd
import pytest

from empirical.analysis.lesions import PREDICTORS
from empirical.analysis.statistics import HALVES
from empirical.runs.config import read_config
from scripts.claims import FOUR, SETS
from scripts.evidence import FURTHER, in_order, network_tasks, only, with_options
from scripts.evidence_claims import CLAIMS, all_claims
from scripts.evidence_networks import Networks, NotRunError, factor_shares
from theory.shared.files import write_archive, write_table
from theory.shared.findings import VERDICTS

DIGITS = {
    "seeds": [0, 1, 3],
    "device": "cpu",
    "data": {"source": "digits", "calibration": 200},
    "measure": {"checkpoints": 2},
    "lesion": {"enabled": True},
    "pruning": {"enabled": True},
}


@pytest.fixture(scope="module")
def tasks(tmp_path_factory):
    out = tmp_path_factory.mktemp("run")
    return in_order(network_tasks(read_config(DIGITS), str(out), None)), str(out)


def stages_of(tasks, seed):
    return [t.arguments["stage"] for t in tasks.values() if t.arguments["seed"] == seed]


def test_a_digest_waits_for_measurements_alone_and_lesions_for_pruning(tasks):
    found, out = tasks

    def waited_for(stage, seed=0):
        return {
            found[key].arguments["stage"] for key in found[f"{out}: seed {seed}: {stage}"].after
        }

    assert waited_for("digest") == {"measure"}
    assert [waited_for(s) for s in ("prune", "lesion", *FURTHER)] == [
        {"digest"}, {"prune"}, {"lesion"}, {"refit"},
    ]  # fmt: skip
    assert waited_for("train", 1) == set()
    assert found[f"{out}: seed 3: train"].after == (f"{out}: seed 0: prune",)
    assert "robustness" not in stages_of(found, 0)


def test_trainings_come_first_then_stages_seed_by_seed(tasks):
    found, _ = tasks
    listed = [(t.arguments["stage"], t.arguments["seed"]) for t in found.values()]
    assert listed[:3] == [("train", 0), ("train", 1), ("train", 3)]
    assert listed[-3:] == [("tune", 0), ("tune", 1), ("tune", 3)]
    assert listed.index(("digest", 3)) < listed.index(("prune", 0)) < listed.index(("lesion", 0))


def test_what_is_switched_off_is_not_waited_for(tmp_path):
    config = with_options(read_config(DIGITS), "pruning", {"enabled": False})
    config = with_options(config, "lesion", {"enabled": False})
    found = network_tasks(config, str(tmp_path), None)
    assert not {"prune", "lesion", *FURTHER} & set(stages_of(found, 0))
    assert found[f"{tmp_path}: seed 3: train"].after == (f"{tmp_path}: seed 0: digest",)


def test_chosen_stages_wait_for_none_of_the_others(tasks):
    found, out = tasks
    chosen = only(found, ["lesion", "tune"])
    assert [t.arguments["stage"] for t in chosen.values()] == ["lesion"] * 3 + ["tune"] * 3
    assert {key: task.after for key, task in chosen.items() if task.after} == {}
    both = only(found, ["prune", "lesion"])
    assert both[f"{out}: seed 1: lesion"].after == (f"{out}: seed 1: prune",)


def test_further_factors_are_of_the_criteria_that_were_asked_for(tmp_path):
    config = with_options(read_config(DIGITS), "pruning", {"criteria": ["random", "l2"]})
    found = network_tasks(config, str(tmp_path), None)
    criteria = {
        stage: json.loads(found[f"{tmp_path}: seed 0: {stage}"].arguments["config"])["pruning"][
            "criteria"
        ]
        for stage in FURTHER
    }
    assert criteria == {"refit": ["random", "l2"], "tune": ["random"]}


def couplings(seed, falls):
    """Four layers whose axes start coupled by about .5, and lose it where it `falls`."""
    rng = np.random.default_rng(seed)
    rows = []
    for step in (0, 5, 100):
        for layer in range(4):
            value = (0.5 if step == 0 or not falls else 0.02) + 0.03 * rng.standard_normal()
            rows.append(
                {
                    "layer": f"layer{layer}", "depth": layer / 3, "step": step, "seed": seed,
                    "first": "input_capture", "second": "task_information", "kind": "between",
                    "coupling": value, "corrected": value, "null_low": -0.2, "null_high": 0.2,
                    "first_reliability": 0.9, "second_reliability": 0.8,
                }
            )  # fmt: skip
    between = pd.DataFrame(rows)
    return pd.concat([between, between.assign(second="peer_overlap", kind="within")])


def planted(folder, data, network, *, falls, seeds=3):
    for seed in range(seeds):
        own = folder / data / network / f"seed-{seed}"
        write_table(own / "digest" / "couplings.csv", couplings(seed, falls))
        (own / "train").mkdir()
        (own / "train" / "history.json").write_text(json.dumps([{"epoch": 0}, {"epoch": 6.0}]))
    return Networks(data, network, folder / data / network)


def test_planted_couplings_are_judged_and_what_is_missing_says_so(tmp_path):
    every = [
        planted(tmp_path, data, network, falls=falls)
        for data in ("cifar10", "tiny100")
        for network, falls in (("resnet18", True), ("vgg16", False))
    ]
    found = pd.DataFrame([vars(claim) for claim in all_claims(every)])
    assert len(found) == 4 * (len(CLAIMS) + 1) + 2
    assert set(found["word"]) <= set(VERDICTS)
    assert not found[["word", "effect"]].eq("").any(axis=None)
    words = found.set_index(["claim", "network", "data"])["word"]
    assert words["C1 coupled, then apart", "resnet18", "cifar10"] == "holds"
    assert words["C1 coupled, then apart", "vgg16", "tiny100"] == "contradicted"
    assert words["C3 early", "resnet18", "cifar10"] == "holds"
    assert words["C6 same direction elsewhere", "resnet18", "both"] == "holds"
    assert words["C6 same direction elsewhere", "vgg16", "both"] == "not resolved"
    missing = found[found["claim"].isin(["C2 other groups", "C8 gradients apart", "C4 E beyond"])]
    assert set(missing["effect"]) == {"not run"}
    assert set(found.loc[found["networks"] > 0, "epochs"]) == {6.0}
    assert set(found["network"]) <= set(FOUR)
    assert set(found["data"]) <= set(SETS)


def test_of_two_folders_the_one_with_more_networks_is_judged_and_two_networks_are_no_verdict(
    tmp_path,
):
    few = planted(tmp_path / "a", "cifar10", "resnet18", falls=True, seeds=2)
    more = planted(tmp_path / "b", "cifar10", "resnet18", falls=True)
    for every, networks, word in (([few, more], 3, "holds"), ([few], 2, "not resolved")):
        claim = next(iter(all_claims(every)))
        assert (claim.networks, claim.word) == (networks, word)


def lesioned(folder, *, information_error, seeds=3):
    """Networks whose peers and input capture decide damage, which the law foretells."""
    for seed in range(seeds):
        rng = np.random.default_rng(seed)
        rows, foretold = [], {}
        for layer in ("conv1", "conv2", "conv3"):
            values = {name: rng.standard_normal(40) for name in PREDICTORS}
            damage = values["input_capture"] - 2 * values["peer_predictability"]
            foretold[f"100/{layer}/damage_alone"] = damage + 0.1 * rng.standard_normal(40)
            errors = dict.fromkeys(PREDICTORS, 0.05) | {"task_information": information_error}
            halves = {
                f"{name}{half}": value + errors[name] * rng.standard_normal(40)
                for name, value in values.items()
                for half in HALVES[1:]
            }
            channels = {"layer": layer, "channel": np.arange(40), "kind": "mean"}
            rows.append(pd.DataFrame(channels | values | halves | {"divergence": damage}))
        own = folder / f"seed-{seed}"
        write_table(own / "lesions" / "lesions.csv", pd.concat(rows))
        write_archive(own / "digest" / "scores.npz", {"seed": seed}, foretold)
    return Networks("cifar10", "resnet18", folder)


def test_planted_damage_is_found_by_peers_and_law_where_the_controls_are_reliable(tmp_path):
    words = {}
    for name, error in (("precise", 0.05), ("vague", 20.0)):
        found = pd.DataFrame(
            vars(claim)
            for claim in all_claims([lesioned(tmp_path / name, information_error=error)])
        ).set_index("claim")
        words[name] = found["word"]
    assert words["precise"]["C4 E beyond"] == "holds"
    assert words["precise"]["hull first at matched I_T"] == "contradicted"
    assert words["precise"]["law foretells damage best"] == "holds"
    assert words["vague"]["C4 E beyond"] == "not resolved"
    assert found.loc["C4 E beyond", "networks"] == 0
    assert "(networks lesioned: 3)" in found.loc["C4 E beyond", "effect"]
    assert words["vague"]["law foretells damage best"] == "holds"


def test_layers_of_one_network_are_no_networks(tmp_path):
    one = lesioned(tmp_path, information_error=0.05, seeds=1)
    found = pd.DataFrame(vars(claim) for claim in all_claims([one])).set_index("claim")
    of_lesions = found[found["networks"] > 0]
    assert {"C4 E beyond", "hull first at matched I_T"} <= set(of_lesions.index)
    assert set(of_lesions["networks"]) == {1}
    assert set(found["word"]) == {"not resolved"}


def test_planted_factors_divide_the_spread_of_damage_as_they_were_planted():
    rng = np.random.default_rng(0)
    alone, left = np.exp(rng.normal([[0], [0]], [[1.0], [0.5]], (2, 4000)))
    channels = pd.DataFrame(
        {"layer": "conv", "channel": np.arange(4000), "family": np.arange(4000)}
    )
    errors = {"damage_alone_se": 1e-4, "damage_with_peers_se": 1e-4}
    foretold = channels.assign(damage_alone=alone, damage_with_peers=alone * left, **errors)
    noise = np.exp(0.5 * rng.standard_normal(4000))
    lesions = channels.assign(kind="mean", divergence=alone, divergence_se=1e-4)
    replaced = channels.assign(kind="all", divergence=alone * left * noise, divergence_se=1e-4)
    found = factor_shares(foretold, lesions, replaced)
    assert found["alone"] == pytest.approx(1 / 1.5, abs=0.03)
    assert found["peers"] == pytest.approx(0.25 / 1.5, abs=0.03)
    assert found["both"] == found["alone"] + found["peers"]
    assert found["beyond"] == pytest.approx(0.25 / 1.5, abs=0.03)


def test_cells_of_pruning_are_read_line_by_line_up_to_a_kill(tmp_path):
    folder = tmp_path / "seed-1" / "pruning"
    folder.mkdir(parents=True)
    cell = {"criterion": "random", "allocation": "uniform", "recovery": "none", "share": 0.5}
    lines = [
        json.dumps({"cell": cell | {"draw": draw}, "result": {"accuracy": 0.1 * draw}})
        for draw in (1, 2)
    ]
    lines.append(json.dumps({"cell": {"scores": "random"}, "result": {}}))
    (folder / "x.jsonl").write_text("\n".join([*lines, lines[0][:30]]), encoding="utf-8")
    one = Networks("cifar10", "vgg16", tmp_path)
    assert one.pruned["accuracy"].tolist() == [0.1, 0.2]
    assert set(one.pruned["seed"]) == {1}
    assert one.areas["area"].tolist() == pytest.approx([0.15])
    (tmp_path / "seed-1" / "tune").mkdir()
    tuned = {"cell": cell | {"recovery": "finetune", "share": 0.3, "draw": 1}}
    line = json.dumps(tuned | {"result": {"accuracy": 0.7}})
    (tmp_path / "seed-1" / "tune" / "x.jsonl").write_text(line, encoding="utf-8")
    found = Networks("cifar10", "vgg16", tmp_path).areas.set_index("recovery")["area"]
    assert found.to_dict() == pytest.approx({"none": 0.15, "finetune": 0.7})
    with pytest.raises(NotRunError, match="no pruned networks"):
        _ = Networks("cifar10", "vgg16", tmp_path / "elsewhere").pruned
