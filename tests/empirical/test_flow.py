"""Flow between layers: links are kernels, a planted flow is found, and nothing where none is."""

import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn

from empirical.analysis.flow import channel_links, layer_flow, mean_flow
from empirical.analysis.missing import NoDataError
from empirical.analysis.seeds import over_networks
from empirical.models import ModelSpec
from empirical.report.flow import flow_findings, flow_section
from theory.shared.findings import verdict

LOCAL, TARGET = "input_capture", "task_information"


def test_links_are_squared_kernels_of_the_layer_that_reads():
    model = nn.Sequential(
        nn.Conv2d(3, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU(),
        nn.Conv2d(4, 5, 3, padding=1), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(),
        nn.Linear(5, 2),
    )  # fmt: skip
    found = channel_links(model, torch.zeros(1, 3, 8, 8))
    assert list(found) == [("0", "3"), ("3", "7")]
    weight = model[3].weight.detach().double().numpy()
    assert found["0", "3"] == pytest.approx((weight**2).sum(axis=(2, 3)))
    assert found["3", "7"] == pytest.approx(model[7].weight.detach().double().numpy() ** 2)


def test_the_last_source_of_a_residual_sum_stands_for_it_and_depthwise_layers_are_passed_over():
    resnet = ModelSpec("resnet18", classes=10, image_size=8, width=0.125).build(0)
    links = channel_links(resnet, torch.zeros(1, 3, 8, 8))
    assert ("layer1.0.conv2", "layer1.1.conv1") in links  # and not from the stem
    assert ("layer1.0.conv1", "layer1.0.conv2") in links
    assert [reader for _, reader in links] == list(dict.fromkeys(reader for _, reader in links))
    mobile = ModelSpec("mobilenetv2", classes=10, image_size=8, width=0.25).build(0)
    links = channel_links(mobile, torch.zeros(1, 3, 8, 8))
    sources, readers = (set(names) for names in zip(*links, strict=True))
    depthwise = {n for n, m in mobile.named_modules() if isinstance(m, nn.Conv2d) and m.groups > 1}
    assert depthwise
    assert not depthwise & (sources | readers)


def planted(rng, *, channels=40, local=0.0, target=0.0):
    """Scores and kernels of three layers; `local` and `target` say how much of either arrives."""
    scores = {"a": {q: rng.standard_normal(channels) for q in (LOCAL, TARGET)}}
    links = {}
    for source, reader in (("a", "b"), ("b", "c")):
        strength = rng.gamma(0.3, size=(channels, channels))
        links[source, reader] = strength
        scores[reader] = {}
        for name, share in ((LOCAL, local), (TARGET, target)):
            arriving = strength @ scores[source][name] / strength.sum(axis=1)
            own = arriving / arriving.std() * share
            scores[reader][name] = np.exp(own + rng.standard_normal(channels))
    return scores, links


def of_networks(rng, number, **options):
    return pd.concat(
        [
            layer_flow(*planted(rng, **options), permutations=40).assign(seed=s)
            for s in range(number)
        ]
    )


def test_a_planted_flow_of_one_axis_is_found_in_that_axis_alone():
    rng = np.random.default_rng(0)
    flows = of_networks(rng, 3, local=2.0)
    local, target, *across, more = (finding.values for finding in flow_findings(flows))
    assert local["word"] == "holds"
    assert local["flow"].low > 0.4
    assert abs(target["flow"].mean) < 0.3
    assert all(abs(one["flow"].mean) < 0.3 for one in across)
    assert more["more"].mean > 0.1
    section = flow_section(flows)
    assert list(section.figures) == ["flow_by_depth"]
    assert len(section.tables["flow"]) == 3 * 2 * 4


def test_flow_is_the_rank_correlation_of_what_arrives():
    rng = np.random.default_rng(1)
    scores, links = planted(rng, channels=9)
    found = layer_flow(scores, links, permutations=30)
    row = found[found["one"].eq("target") & found["other"].eq("local")].iloc[0]
    ranks = scores["a"][TARGET].argsort().argsort() + 1.0
    arriving = (links["a", "b"] * ranks).sum(axis=1) / links["a", "b"].sum(axis=1)
    expected = np.corrcoef(*(v.argsort().argsort() for v in (arriving, scores["b"][LOCAL])))[0, 1]
    assert row["flow"] == pytest.approx(expected)
    assert row["null_low"] < row["null_mean"] < row["null_high"]


def test_where_nothing_flows_three_networks_seldom_say_so():
    """The level of the verdict: 2.5 % of triples of networks, one-sided; layers share no scores."""
    rng, said = np.random.default_rng(2), 0
    for _ in range(60):
        means = mean_flow(of_networks(rng, 3, channels=16))
        own = means[means["one"].eq("local") & means["other"].eq("local")]["beyond"]
        said += verdict(over_networks(own, (-2.0, 2.0))) == "holds"
    assert said / 60 < 0.025 + 4 * np.sqrt(0.025 * 0.975 / 60)


def test_links_without_scores_are_left_out_and_no_link_is_no_data():
    scores, links = planted(np.random.default_rng(3), channels=9)
    del scores["c"]
    assert set(layer_flow(scores, links, permutations=20)["reader"]) == {"b"}
    scores["a"][LOCAL][0] = np.nan
    with pytest.raises(NoDataError, match="no layer reads"):
        flow_section(layer_flow(scores, links, permutations=20))
    with pytest.raises(ValueError, match="permutations must be a whole number >= 19"):
        layer_flow(scores, links, permutations=3)
