"""At the optimum of a linear network, measured damages are those of the lesion identities (T5)."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from empirical import lesion, replace
from theory.moments import Moments

N, INPUTS, WIDTH = 400, 6, 5
EXACT = 1e-6
"""Relative. The network runs in float64; the table stores differences of losses as float32."""


class Problem:
    """Calibration and evaluation samples that differ in every image and agree in all moments."""

    def __init__(self, seed: int = 0) -> None:
        rng = np.random.default_rng(seed)
        mixing = rng.standard_normal((INPUTS, INPUTS))
        x = rng.standard_normal((N, INPUTS)) @ mixing
        self.target = x @ rng.standard_normal(INPUTS) + np.tanh(x[:, 0]) + rng.standard_normal(N)
        self.images = torch.from_numpy(x)
        self.model = nn.Sequential(nn.Linear(INPUTS, WIDTH), nn.Linear(WIDTH, 1)).double()
        generator = torch.Generator().manual_seed(seed)
        with torch.no_grad():
            for parameter in self.model.parameters():
                parameter.copy_(
                    torch.randn(parameter.shape, generator=generator, dtype=torch.float64)
                )
            hidden = self.model[0](self.images).numpy()
        self.moments = Moments.from_samples(hidden, self.target)
        k = self.moments.cov[:WIDTH, :WIDTH] * (N - 1) / N
        self.readout = np.linalg.solve(k, self.moments.cov[:WIDTH, WIDTH] * (N - 1) / N)
        bias = self.moments.mean[WIDTH] - self.readout @ self.moments.mean[:WIDTH]
        with torch.no_grad():
            self.model[1].weight.copy_(torch.from_numpy(self.readout)[None])
            self.model[1].bias.fill_(bias)
        self.covariance = k

    def loss(self, outputs: torch.Tensor, index: torch.Tensor) -> torch.Tensor:
        """Labels are image numbers: the squared error looks the targets up."""
        return (outputs[:, 0] - torch.from_numpy(self.target)[index]) ** 2

    @property
    def loader(self) -> list[tuple[torch.Tensor, torch.Tensor]]:
        index = torch.arange(N)
        return [(self.images[:150], index[:150]), (self.images[150:], index[150:])]


@pytest.mark.parametrize("method", ["fast", "naive"])
def test_mean_lesion_costs_squared_weight_times_power(method: str) -> None:
    problem = Problem()
    table = lesion(
        problem.model,
        problem.loader,
        kinds=["mean"],
        calibration={"0": problem.moments},
        loss=problem.loss,
        method=method,
    )
    expected = problem.readout**2 * np.diagonal(problem.covariance)
    np.testing.assert_allclose(table.mean_and_error("loss_increase")[0], expected, rtol=EXACT)


@pytest.mark.parametrize("method", ["fast", "naive"])
def test_replacement_costs_squared_weight_over_precision_which_is_a_refit(method: str) -> None:
    problem = Problem()
    table = replace(
        problem.model,
        problem.loader,
        {"0": problem.moments},
        peers="all",
        ridge=0.0,
        loss=problem.loss,
        method=method,
    )
    damage, _ = table.mean_and_error("loss_increase")
    replaced, lesioned = damage[table.kind == "all"], damage[table.kind == "mean"]
    inverse = np.linalg.inv(problem.covariance)
    np.testing.assert_allclose(replaced, problem.readout**2 / np.diagonal(inverse), rtol=EXACT)
    predictability = 1 - 1 / (np.diagonal(problem.covariance) * np.diagonal(inverse))
    np.testing.assert_allclose(replaced / lesioned, 1 - predictability, rtol=EXACT)
    np.testing.assert_allclose(table.predicted[table.kind == "all"], predictability, rtol=EXACT)
    recovered = table.to_frame().query("kind == 'all'").recovered.to_numpy()
    clear = ~np.isnan(recovered)  # one channel's mean lesion is within its noise
    assert clear.sum() == WIDTH - 1
    np.testing.assert_allclose(recovered[clear], predictability[clear], rtol=EXACT)

    with torch.no_grad():
        hidden = problem.model[0](problem.images).numpy()
    full = np.column_stack([hidden, np.ones(N)])
    dense_error = np.mean((full @ np.linalg.lstsq(full, problem.target)[0] - problem.target) ** 2)
    for channel in range(WIDTH):
        rest = np.delete(full, channel, axis=1)
        fitted = rest @ np.linalg.lstsq(rest, problem.target)[0]
        increase = np.mean((fitted - problem.target) ** 2) - dense_error
        assert replaced[channel] == pytest.approx(increase, rel=EXACT)


def test_a_pair_lesion_is_not_the_sum_of_its_parts_where_channels_correlate() -> None:
    problem = Problem()
    table = lesion(
        problem.model,
        problem.loader,
        channels={"0": [(0, 3)]},
        kinds=["mean"],
        calibration={"0": problem.moments},
        loss=problem.loss,
    )
    a, k = problem.readout[[0, 3]], problem.covariance[np.ix_([0, 3], [0, 3])]
    np.testing.assert_allclose(table.mean_and_error("loss_increase")[0], [a @ k @ a], rtol=EXACT)
