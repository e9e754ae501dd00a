"""The commands on one network: what they write, and what they refuse before anything is read."""

import json

import pandas as pd
import pytest
import torch
from typer.testing import CliRunner

import twoaxis
from empirical.commands.source import NetworkSource
from empirical.pruning.latency import Latency
from empirical.pruning.macs import count_macs


def invoke(*arguments):
    result = CliRunner().invoke(twoaxis.app, list(arguments), catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.output


def test_prune_writes_a_network_its_record_and_its_export(tmp_path):
    options = "--model small_convnet --images 60 --macs 0.6 --criterion l2 --recovery recalibrate"
    output = invoke(
        *("prune", *options.split(), "--round-to", "4"),
        *("--export", "torch", "--out", str(tmp_path)),
    )
    assert "l2, uniform, recalibrate" in output
    names = ["channels.csv", "prune.json", "pruned.pt2", "pruned.safetensors", "removed.csv"]
    assert sorted(path.name for path in tmp_path.iterdir()) == names
    for name in names:
        assert name in output.replace("\n", "")
    record = json.loads((tmp_path / "prune.json").read_text())
    assert (record["model"], record["images"], record["seed"]) == ("small_convnet", 60, 0)
    assert record["report"]["requested"] == 0.6
    assert [found["images"] for found in record["accuracy"]] == [599, 599]
    channels = pd.read_csv(tmp_path / "channels.csv")
    assert (channels["after"] < channels["before"]).any()
    gone = pd.read_csv(tmp_path / "removed.csv").groupby("layer").size()
    assert gone.sum() == (channels["before"] - channels["after"]).sum()
    assert 0 <= record["agreement"] <= 1
    assert record["bytes"][1] < record["bytes"][0]
    assert (channels["after"] % 4 == 0).all()
    kept = twoaxis.load_pruned(tmp_path / "pruned.safetensors").model
    exported = torch.export.load(tmp_path / "pruned.pt2").module()
    images = torch.rand(2, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        torch.testing.assert_close(kept.eval()(images), exported(images))


PRUNED = ("prune", "--model", "small_convnet", "--images", "60", "--recovery", "merge")


def test_what_lies_beside_a_new_network_is_its_own(tmp_path, monkeypatch):
    """Also where the second command is interrupted before it has written its tables."""
    invoke(*PRUNED, "--export", "torch", "--out", str(tmp_path))
    first = (tmp_path / "pruned.safetensors").read_bytes()

    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr("empirical.pruning.pruning_report.PrunedModel.layers", interrupted)
    again = (*PRUNED, "--macs", "0.7", "--out", str(tmp_path))
    assert CliRunner().invoke(twoaxis.app, list(again)).exit_code == 130
    assert [path.name for path in tmp_path.iterdir()] == ["pruned.safetensors"]
    assert (tmp_path / "pruned.safetensors").read_bytes() != first


@pytest.mark.parametrize("slower", [False, True])
def test_half_the_time_means_that_of_the_export(slower, tmp_path, monkeypatch):
    """A clock of ONNX Runtime that goes by multiply-accumulates, or runs backwards at the end."""
    clocks = []

    def clock(models, images, *, repeats=20, **_):
        clocks.append(len(images))
        found = [count_macs(model, images[:1]) for model in models]
        return [Latency(t, t, t, repeats, len(images)) for t in found]

    def last(models, images):
        return clock(models, images)[:: -1 if slower else 1]

    monkeypatch.setattr("empirical.pruning.onnx_times.onnx_latencies", clock)
    monkeypatch.setattr("empirical.pruning.latency.onnx_latencies", last)
    timed = (*PRUNED, "--criterion", "l2", "--latency", "0.6", "--export", "onnx")
    output = invoke(*timed, "--out", str(tmp_path))
    report = json.loads((tmp_path / "prune.json").read_text())["report"]
    assert report["measured_time"] == pytest.approx(0.6, rel=0.05)
    assert report["macs_after"] / report["macs_before"] == pytest.approx(report["measured_time"])
    assert clocks[0] == 16
    assert f"{report['measured_time']:.2%} of the latency, 60.00% requested" in output
    assert ("slower in ONNX Runtime" in output and "--round-to 16" in output) == slower


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ("--layer conv1 --keep 4 --macs 0.5", "--layer and --keep say how many channels stay"),
        ("--forecast --latency 0.5 --export onnx", "--forecast foretells shares of PyTorch's time"),
    ],
)
def test_options_that_exclude_each_other_are_refused_before_anything_is_read(options, message):
    result = CliRunner().invoke(twoaxis.app, ["prune", "--model", "none", *options.split()])
    assert isinstance(result.exception, ValueError)
    assert message in str(result.exception)


def test_prune_foretells_without_pruning(tmp_path):
    output = invoke(*PRUNED, "--forecast", "--criterion", "l2", "--out", str(tmp_path))
    names = ["forecast.csv", "forecast.png", "forecast_layers.csv"]
    assert sorted(path.name for path in tmp_path.iterdir()) == names
    table = pd.read_csv(tmp_path / "forecast.csv")
    assert table["share"][0] == 1
    assert table["kl"].is_monotonic_increasing
    assert f"{table['accuracy'].iloc[-1]:.1%}" in output
    layers = pd.read_csv(tmp_path / "forecast_layers.csv")
    assert (layers.groupby("layer")["damage"].last() == 0).all()


def test_prune_thins_out_the_layers_that_are_named(tmp_path):
    named = ("--layer", "conv2", "--keep", "5", "--criterion", "l2")
    invoke(*PRUNED, *named, "--out", str(tmp_path))
    channels = pd.read_csv(tmp_path / "channels.csv").set_index("layer")
    assert channels.loc["conv2", "after"] == 5
    others = channels.drop(index="conv2")
    assert (others["after"] == others["before"]).all()
    with pytest.raises(ValueError, match="--layer and --keep must go together; got 1 and 0"):
        CliRunner().invoke(twoaxis.app, [*PRUNED, "--layer", "conv2"], catch_exceptions=False)


def test_prune_lists_its_criteria():
    rows = invoke("prune", "--criterion", "list").splitlines()
    assert [row.split()[0] for row in rows] == twoaxis.criterion_names()
    assert next(row for row in rows if row.startswith("l2 ")).split()[1] == "weights"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("prune --criterion l3", "criterion must be one of .*Did you mean 'l2'"),
        ("prune --allocation globe", "allocation must be one of .*Did you mean 'global'"),
        ("prune --recovery merged", "recovery must be one of .*Did you mean 'merge'"),
        ("prune --export onxx", "--export must be one of .*Did you mean 'onnx'"),
        ("prune --target margin", "target must be one of .*Did you mean 'logit_margin'"),
        ("measure --target margin", "target must be one of .*Did you mean 'logit_margin'"),
        ("lesion --kind meen", "--kind must be one of .*Did you mean 'mean'"),
        ("lesion --peers hulls", "--peers must be one of .*Did you mean 'hull'"),
        ("lesion --peers none --peers all", "--peers must be none alone.*got none, all"),
        ("prune --macs 2", "macs must be in .*got 2"),
        *(
            (f"{name} --seed 9223372036854775808", "--seed must be .* 0 to 2.63 - 1; got 922")
            for name in ("measure", "lesion", "prune")
        ),
    ],
)
def test_what_cannot_be_is_refused_before_an_image_is_read(arguments, message, monkeypatch):
    monkeypatch.setattr("empirical.data.loading.load_data", lambda *_, **__: pytest.fail("read"))
    with pytest.raises(ValueError, match=f"^{message}[^\n]*$"):
        CliRunner().invoke(twoaxis.app, arguments.split(), catch_exceptions=False)


def test_a_source_is_normalized_as_asked_and_draws_by_its_seed():
    opened = NetworkSource(model="small_convnet", mean="0.25", std="0.5", seed=3).open()
    assert opened.train.mean == opened.test.mean == (0.25,)
    assert opened.train.std == opened.test.std == (0.5,)
    assert not opened.network.training
    one, again = (opened.drawn(opened.train, 40).images for _ in range(2))
    assert len(one) == 40
    assert torch.equal(one, again)
    other = NetworkSource(model="small_convnet", seed=4).open()
    assert not torch.equal(one, other.drawn(other.train, 40).images)
    assert len(opened.drawn(opened.test, 10**6)) == len(opened.test)
    assert other.train.mean != (0.25,)
    assert opened.spec is not None
    assert opened.spec.name == opened.name == "small_convnet"
