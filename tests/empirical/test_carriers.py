"""Features of one step against the logits of another, in networks."""

import copy
import runpy
from argparse import Namespace
from pathlib import Path

import pandas as pd
import pytest
import torch
from torch import nn

from empirical import measure
from empirical.analysis import carriers as crossing
from empirical.analysis.carriers import carrier_sentence, carriers, crossed_couplings
from empirical.data.images import image_loader
from empirical.data.loading import load_data
from empirical.reading.batches import batches
from scripts.carriers import configured, thinned
from theory import spearman
from theory.shared.files import write_json


def network(seed):
    torch.manual_seed(seed)
    return nn.Sequential(
        nn.Conv2d(1, 12, 3), nn.BatchNorm2d(12), nn.ReLU(), nn.Conv2d(12, 9, 3), nn.ReLU(),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(9, 10),
    )  # fmt: skip


@pytest.fixture(scope="module")
def loader():
    return image_loader(load_data("digits")[0], batch_size=300)


def coupled(model, loader, layer, target="logit_margin"):
    table = measure(model, loader, target=target, hull=False, standard_errors=False)
    values = table.values(layer)
    return spearman(values["input_capture"], values["task_information"])


def test_cells_are_the_features_of_one_network_with_the_logits_of_the_other(loader):
    first, last = network(0), network(1)
    found = crossed_couplings({0: first, 7: last}, loader).set_index(
        ["features", "target", "layer"]
    )["coupling"]
    other = {0: last.eval(), 7: first.eval()}
    for step, model in ((0, first), (7, last)):
        assert found[step, step, "3"] == pytest.approx(coupled(model, loader, "3"), abs=1e-9)
        images = torch.cat([images for images, _ in loader])
        labels = torch.cat([labels for _, labels in loader])
        with torch.no_grad():
            logits = other[step](images)
        true = logits.gather(1, labels[:, None])[:, 0]
        rivals = logits.scatter(1, labels[:, None], -torch.inf).amax(1)
        margins = (true - rivals)[:, None]
        by_hand = coupled(model, [(images, margins)], "3", lambda _outputs, known: known)
        assert found[step, 7 - step, "3"] == pytest.approx(by_hand, abs=1e-6)


@pytest.mark.slow
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_networks_on_a_gpu_are_crossed_as_on_the_cpu(loader):
    networks = {0: network(0), 7: network(1)}
    found = crossed_couplings(networks, loader)
    there = crossed_couplings({step: model.cuda() for step, model in networks.items()}, loader)
    assert (found["coupling"] - there["coupling"]).abs().max() < 0.05


def test_the_first_images_go_to_where_the_networks_are(loader, monkeypatch):
    """Layers are looked for on the network's own device, which is not that of the loader."""
    asked = []
    monkeypatch.setattr(
        crossing, "batches", lambda given, place: asked.append(place) or batches(given, "cpu")
    )
    monkeypatch.setattr(crossing, "device_of", lambda model: torch.device("meta"))
    crossed_couplings({0: network(0), 7: network(1)}, loader)
    assert asked == [torch.device("meta")]


def test_equal_networks_carry_nothing(loader):
    model = network(0)
    table = carriers(
        crossed_couplings({0: model, 1: copy.deepcopy(model)}, loader).assign(seed=0)
    ).set_index("what")
    assert table["mean"]["fall carried by features"] == pytest.approx(0, abs=1e-9)
    assert table["mean"]["fall carried by targets"] == pytest.approx(0, abs=1e-9)


def test_both_parts_add_up_to_the_fall_over_networks():
    rows = [
        {"seed": seed, "features": step, "target": target, "coupling": value + 0.01 * seed}
        for seed in range(4)
        for (step, target), value in {(0, 0): 0.5, (5, 0): 0.3, (0, 5): 0.2, (5, 5): -0.1}.items()
    ]
    table = carriers(pd.DataFrame(rows))
    own = table.set_index("what")["mean"]
    assert own["fall"] == pytest.approx(0.6)
    assert own["fall carried by features"] == pytest.approx(0.25)
    assert own["fall carried by targets"] == pytest.approx(0.35)
    assert set(table["networks"]) == {4}
    assert "the features carry +0.25" in str(carrier_sentence(table))


def test_one_network_or_an_unknown_step_is_refused(loader):
    with pytest.raises(ValueError, match="networks must be of two steps or more; got \\[3\\]"):
        crossed_couplings({3: network(0)}, loader)
    with pytest.raises(ValueError, match=r"cells must name steps of networks .*got \[4\]"):
        crossed_couplings({0: network(0), 3: network(1)}, loader, cells=[(0, 4)])


@pytest.mark.slow
def test_the_notebook_of_the_chain_runs_and_its_assertions_hold(capsys):
    runpy.run_path(str(Path(__file__).parents[2] / "notebooks" / "mechanism_chain.py"))
    assert "filters held: Of the fall" in capsys.readouterr().out


def options(**given):
    return Namespace(**{"train": None, "set": [], "data": "digits", "device": "cpu", "runs": [],
                        "seeds": None, "images": None, "out": Path("out")} | given)  # fmt: skip


def test_the_script_reads_what_a_run_or_its_trainings_have_kept(tmp_path):
    recipe = {"epochs": 2.0, "batch_size": 64}
    model = {"name": "small_convnet", "classes": 10, "image_size": 8, "channels": 1, "width": 0.5}
    for seed in (3, 5):
        record = tmp_path / f"seed-{seed}" / "train" / "history.json.made-from.json"
        write_json(record, {"inputs": {"recipe": recipe, "seed": seed, "model": model}})
    ((folder, config),) = configured(options(runs=[tmp_path], images=70))
    assert folder == tmp_path
    assert (config.seeds, config.model.name, config.model.width) == ((3, 5), "small_convnet", 0.5)
    assert (config.training.epochs, config.data.source, config.data.calibration) == (
        2,
        "digits",
        70,
    )
    write_json(tmp_path / "run.json", {"config": {"seeds": [1, 2], "model": {"width": 2.0}}})
    ((_, config),) = configured(options(runs=[tmp_path], seeds=[2]))
    assert (config.seeds, config.model.width) == ((2,), 2.0)
    with pytest.raises(ValueError, match="must hold seed-"):
        list(configured(options(runs=[tmp_path / "empty"])))


def test_the_script_trains_with_filters_that_turn_and_held():
    file = Path(__file__).parents[2] / "scripts" / "digits_small.toml"
    found = list(configured(options(train=file, set=["training.epochs=1"])))
    assert [(folder.name, config.training.turning) for folder, config in found] == [
        ("turning", True),
        ("held", False),
    ]
    assert all(config.training.epochs == 1 for _, config in found)


def test_thinned_checkpoints_keep_both_ends():
    files = {step: Path(str(step)) for step in (0, 1, 2, 4, 8, 16, 32)}
    assert list(thinned(files, None)) == list(files)
    assert list(thinned(files, 2)) == [0, 32]
    assert list(thinned(files, 3)) == [0, 4, 32]
    assert list(thinned(files, 99)) == list(files)
