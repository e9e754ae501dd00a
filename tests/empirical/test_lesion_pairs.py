"""Pair lesions: planted super-additivity is found, additive networks show none."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import torch
from torch import Tensor, nn

from empirical import measure
from empirical.analysis.missing import NoDataError
from empirical.analysis.pairs import analyze_pairs, contrast, relation
from empirical.lesions.pairs import choose_pairs, lesion_pairs, pair_relations
from empirical.report.pairs import pair_findings
from theory import Moments


class Additive(nn.Module):
    """A loss linear in the channels: pairs do exactly the sum of their parts."""

    def __init__(self) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(0)
        self.conv = nn.Conv2d(10, 10, 1, bias=False)
        self.head = nn.Linear(10, 2)
        with torch.no_grad():
            self.conv.weight.copy_(torch.randn(10, 10, 1, 1, generator=generator))
            self.head.weight.copy_(torch.randn(2, 10, generator=generator))

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.conv(x).mean((2, 3)))


class Backup(Additive):
    """The output is max(a + b, a - b), channels 0 and 1, plus the sum of the rest."""

    def __init__(self) -> None:
        super().__init__()
        with torch.no_grad():
            weight = 0.2 * torch.eye(10)
            weight[0, :2] = torch.tensor([1.0, 1.0])
            weight[1, :2] = torch.tensor([1.0, -1.0])
            self.conv.weight.copy_(weight[:, :, None, None])

    def forward(self, x: Tensor) -> Tensor:
        y = self.conv(x).mean((2, 3))
        signal = torch.maximum(y[:, 0], y[:, 1]) + y[:, 2:].sum(1)
        return torch.stack([signal, -signal], 1)


def data(n: int, seed: int) -> list[tuple[Tensor, Tensor]]:
    generator = torch.Generator().manual_seed(seed)
    images = torch.randn(n, 10, 1, 1, generator=generator)
    return [(images, (images[:, 0, 0, 0] < 0).long())]


def margin_loss(logits: Tensor, labels: Tensor) -> Tensor:
    """Linear in the logits."""
    return logits.gather(1, 1 - labels[:, None])[:, 0] - logits.gather(1, labels[:, None])[:, 0]


def test_an_additive_network_has_no_interactions() -> None:
    model = Additive()
    pairs = lesion_pairs(model, data(100, 1), measure(model, data(300, 0)), loss=margin_loss)
    assert np.abs(pairs["interaction"]).max() < 1e-5
    assert np.abs(pairs["single_sum"]).max() > 1e-2


def test_a_backup_pair_is_super_additive_and_the_rest_additive() -> None:
    model = Backup()
    table = measure(model, data(300, 0), target=lambda logits, labels: logits[:, 0])
    pairs = lesion_pairs(
        model,
        data(2000, 1),
        table,
        pairs=4,
        kind="zero",
        loss=lambda logits, labels: -logits[:, 0],
    )
    backup = pairs[(pairs["first"] == 0) & (pairs["second"] == 1)]
    others = pairs[(pairs["first"] > 1) & (pairs["second"] > 1)]
    # E max(u, v) of two unit-variance independent is 1/sqrt(pi), of one and 0 is 1/sqrt(2 pi)
    expected = np.sqrt(2) * (2 / np.sqrt(2 * np.pi) - 1 / np.sqrt(np.pi))
    assert backup["group"].item() == "high"
    assert backup["interaction"].item() == pytest.approx(
        expected, abs=4.5 * backup["interaction_se"].item()
    )
    assert np.abs(others["interaction"]).max() < 1e-6


def test_high_pairs_are_disjoint_and_controls_match_single_damage() -> None:
    rng = np.random.default_rng(0)
    excess = rng.random((30, 30))
    excess = excess + excess.T
    np.fill_diagonal(excess, np.nan)
    damage = rng.random(30)
    high, control = choose_pairs(excess, damage, 8, rng)
    assert high.shape == control.shape == (8, 2)
    assert len(set(high.ravel())) == 16
    assert len({tuple(pair) for pair in control}) == 8
    median = np.nanmedian(excess)
    assert (excess[high[:, 0], high[:, 1]] > median).all()
    assert (excess[control[:, 0], control[:, 1]] <= median).all()
    difference = np.sort(damage[high], axis=1) - np.sort(damage[control], axis=1)
    assert np.abs(difference).mean() < 0.1


def test_relations_are_the_pairwise_informations() -> None:
    rng = np.random.default_rng(1)
    y = rng.standard_normal((200, 4)) @ rng.standard_normal((4, 4))
    moments = Moments.from_samples(y, y @ rng.standard_normal(4) + rng.standard_normal(200))
    found = pair_relations(moments)["excess"]

    def information(channels: list[int]) -> float:
        index = [*channels, 4]
        cov = moments.cov[np.ix_(index, index)]
        return 0.5 * np.log(np.linalg.det(cov[:-1, :-1]) * cov[-1, -1] / np.linalg.det(cov))

    for i in range(4):
        for j in range(4):
            if i != j:
                expected = information([i, j]) - max(information([i]), information([j]))
                assert found[i, j] == pytest.approx(expected, rel=1e-8)


def test_a_planted_interaction_of_high_pairs_is_found_and_none_is_none() -> None:
    rng = np.random.default_rng(2)

    def frame(effect: float) -> pd.DataFrame:
        rows = [
            {
                "layer": layer,
                "match": match,
                "group": group,
                "single_sum": rng.random(),
                "interaction": rng.standard_normal() + effect * (group == "high"),
            }
            for layer in "abcdefgh"
            for match in range(12)
            for group in ("high", "control")
        ]
        return pd.DataFrame(rows)

    planted = contrast(frame(1.5)).iloc[0]
    assert planted.interaction_p < 0.01
    assert planted.interaction_low > 0.5
    null = [contrast(frame(0.0)).iloc[0].interaction_p for _ in range(40)]
    # 40 tests at level 0.05; 8 or more below it happen with probability 0.001.
    assert (np.array(null) < 0.05).sum() < 8


def pairs_of(layers: str, matches: int) -> pd.DataFrame:
    rng = np.random.default_rng(3)
    rows = [
        {"layer": layer, "match": match, "group": group}
        for layer in layers
        for match in range(matches)
        for group in ("high", "control")
    ]
    columns = ["single_sum", "interaction", "excess", "overlap"]
    return pd.DataFrame(rows).join(pd.DataFrame(rng.random((len(rows), 4)), columns=columns))


def test_pairs_without_a_damage_or_a_control_are_left_out() -> None:
    frame = pairs_of("abcd", 12)
    holes = frame.copy()
    holes.loc[[0, 25], "interaction"] = np.nan  # pairs 0 and 12, high and control
    kept = frame.drop(index=[0, 1, 24, 25, 50])
    alone = frame.drop(index=[0, 1, 24, 25, 50, 51])
    assert contrast(kept).iloc[0]["pairs"] == contrast(alone).iloc[0]["pairs"] == 45
    pd.testing.assert_frame_equal(contrast(kept), contrast(alone))
    pd.testing.assert_frame_equal(contrast(holes), contrast(frame.drop(index=[0, 1, 24, 25])))
    assert np.isfinite(relation(holes)[["slope", "p"]]).all(axis=None)


def test_pairs_of_which_none_has_a_control_are_refused() -> None:
    frame = pairs_of("ab", 4)
    with pytest.raises(NoDataError, match="no pair has both damages and a control"):
        contrast(frame[frame["group"] == "high"])


def test_a_relation_that_does_not_vary_is_left_out() -> None:
    frame = pairs_of("abcd", 12).assign(overlap=0.0)
    assert relation(frame)["relation"].tolist() == ["excess"]


def test_one_layer_alone_tests_no_contrast() -> None:
    (finding,) = pair_findings(analyze_pairs(pairs_of("a", 4)))
    assert "nan" not in str(finding)
