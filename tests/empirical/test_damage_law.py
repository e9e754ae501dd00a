"""The law of damage: against identities, its definition written out, and exact lesions."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

from empirical import damage, lesion, measure, replace
from empirical.lesions.scores import cross_entropy
from empirical.measuring.curvature import OfEachLogit, OfLoss, OfPrediction
from empirical.reading.batches import batches
from tests.empirical.test_lesion_identities import Problem
from tests.tolerances import NAIVE, STANDARD_ERRORS
from theory.lesion_identities import lesion_damage, set_lesion_damage
from theory.moments import Moments
from theory.peer_regression import regress_on_peers

T5 = 1e-9
"""Relative: dense linear algebra in float64 on both sides."""

GENERATOR = torch.Generator().manual_seed(0)
IMAGES = torch.randn(40, 3, 8, 8, generator=GENERATOR, dtype=torch.float64)
LABELS = torch.arange(40) % 4
LOADER = [(IMAGES[:13], LABELS[:13]), (IMAGES[13:], LABELS[13:])]


class Net(nn.Module):
    """In-place activations, a grouped convolution that runs twice, a depthwise one, a wide one."""

    def __init__(self) -> None:
        super().__init__()
        self.a = nn.Conv2d(3, 6, 3, padding=1)
        self.norm = nn.BatchNorm2d(6)
        self.shared = nn.Conv2d(6, 6, 3, padding=1, groups=3)
        self.depthwise = nn.Conv2d(6, 6, 3, groups=6)
        self.wide = nn.Linear(6, 20)
        self.fc = nn.Linear(20, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = torch.relu_(self.norm(self.a(x)))
        x = self.shared(self.shared(x).relu_()).relu_()
        x = functional.gelu(self.depthwise(x))
        x = functional.relu(self.wide(x.movedim(1, -1)), inplace=True)
        return 20 * self.fc(x.mean((1, 2)))


def net(*, frozen: bool = False) -> Net:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return Net().double().eval().requires_grad_(not frozen)


def test_linear_network_at_its_optimum_is_t5() -> None:
    problem, k = Problem(), Problem().covariance
    table = damage(
        problem.model,
        problem.loader,
        calibration={"0": problem.moments},
        layers=["0"],
        loss=problem.loss,
        ridge=0.0,
        joint=True,
    )["0"]
    expected = lesion_damage(k, k @ problem.readout)
    found = table.values()
    np.testing.assert_allclose(found["damage_alone"], expected.mean, rtol=T5)
    np.testing.assert_allclose(found["damage_with_peers"], expected.replacement, rtol=T5)
    predictability = 1 - 1 / (np.diag(k) * np.diag(np.linalg.inv(k)))
    np.testing.assert_allclose(found["recovered"], predictability, rtol=T5)
    sets = [(0, 2), (1, 3)]
    together = [set_lesion_damage(k, k @ problem.readout, s)["mean"] for s in sets]
    np.testing.assert_allclose(table.of_sets(sets)[0], together, rtol=T5)
    pairs = table.interaction()[0]
    alone = expected.mean
    np.testing.assert_allclose(
        [pairs[i, j] for i, j in sets],
        [both - alone[i] - alone[j] for both, (i, j) in zip(together, sets, strict=True)],
        rtol=T5,
    )


def test_sets_with_peers_outside_them_are_t5() -> None:
    problem, k = Problem(), Problem().covariance
    sets = [(0, 2), (1, 3)]
    found = damage(
        problem.model,
        problem.loader,
        calibration={"0": problem.moments},
        channels={"0": sets},
        loss=problem.loss,
        ridge=0.0,
    )
    values = found["0"].values()
    expected = [set_lesion_damage(k, k @ problem.readout, s) for s in sets]
    np.testing.assert_allclose(values["damage_alone"], [e["mean"] for e in expected], rtol=T5)
    np.testing.assert_allclose(
        values["damage_with_peers"], [e["replacement"] for e in expected], rtol=T5
    )
    assert found.to_frame()["channel"].tolist() == ["0+2", "1+3"]


STEP = 1e-6
"""Share of the way to the lesion: no activation changes its side within it."""


@torch.no_grad()
def naive(model: Net, point: str, layer: str, moments: Moments) -> np.ndarray:
    """½ δᵀ(diag p - ppᵀ)δ alone and with peers, δ by differences on the way to the lesion.

    A layer that runs once goes the way after its activation, between what this makes of the channel
    and of its stand-in; the shared one before it.
    """
    regression = regress_on_peers(moments, ridge=1e-4)
    mean = torch.from_numpy(moments.mean[: moments.n_channels].copy())
    slopes = torch.from_numpy(regression.coefficients)

    def logits(channel: int, peers: int, t: float) -> torch.Tensor:
        def stand_in(y: torch.Tensor, last: bool) -> torch.Tensor:
            rows = y if last else y.movedim(1, -1)
            deviations = rows - mean
            lost = deviations[..., channel] - peers * (deviations @ slopes[channel])
            unit = functional.one_hot(torch.tensor(channel), len(mean)).to(y)
            rows = rows - lost[..., None] * unit
            return rows if last else rows.movedim(-1, 1)

        def stage(name: str, y: torch.Tensor, act, norm=None) -> torch.Tensor:
            def through(z: torch.Tensor) -> torch.Tensor:
                return act(z if norm is None else norm(z))

            last = name == "wide"
            if name != layer:
                return through(y)
            if point == "post_activation":
                y = through(y)
                return y + t * (stand_in(y, last) - y)
            if name == "shared":
                return through(y + t * (stand_in(y, last) - y))
            return through(y) + t * (through(stand_in(y, last)) - through(y))

        x = stage("a", model.a(IMAGES), torch.relu, model.norm)
        x = stage("shared", model.shared(x), torch.relu)
        x = stage("shared", model.shared(x), torch.relu)
        x = stage("depthwise", model.depthwise(x), functional.gelu)
        x = stage("wide", model.wide(x.movedim(1, -1)), torch.relu)
        return 20 * model.fc(x.mean((1, 2)))

    p = torch.softmax(model(IMAGES), 1)
    found = np.zeros((2, len(mean)))
    for peers in (0, 1):
        for channel in range(len(mean)):
            ahead, back = (logits(channel, peers, t) for t in (STEP, -STEP))
            change = (ahead - back) / (2 * STEP)
            spread = (p * change**2).sum(1) - (p * change).sum(1) ** 2
            found[peers, channel] = spread.mean().item() / 2
    return found


@pytest.mark.parametrize("frozen", [False, True], ids=["trainable", "frozen"])
@pytest.mark.parametrize("point", ["pre_norm", "post_activation"])
def test_definition_written_out(point: str, frozen: bool) -> None:
    """Exactly what the draws average to: by all four unit vectors, in the second order."""
    model = net(frozen=frozen)
    with torch.no_grad():
        model.fc.weight.mul_(1e-3)  # where the divergence is its second order
    calibration = measure(model, LOADER, point=point, positions=99, hull=False)
    table = damage(model, LOADER, calibration=calibration, point=point, form="linearized")
    assert list(table.layers) == ["a", "shared", "depthwise", "wide"]
    for layer, found in table.layers.items():
        expected = naive(model, point, layer, calibration.moments[layer])
        for row, name in enumerate(("damage_alone", "damage_with_peers")):
            floor = 1e-5 * expected[0].max()  # what rounding leaves of differences over a step
            np.testing.assert_allclose(found.values()[name], expected[row], rtol=1e-3, atol=floor)
    assert model.fc.weight.requires_grad is not frozen


class Shortcut(nn.Module):
    """Linear after the activation, and around it: what a lesion does to the logits is exact."""

    def __init__(self, act) -> None:
        super().__init__()
        self.conv, self.norm = nn.Conv2d(3, 6, 3), nn.BatchNorm2d(6)
        self.fc, self.act = nn.Linear(12, 4), act

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.conv(x)
        y = self.act(self.norm(x))
        return 3 * self.fc(torch.cat([x.mean((2, 3)), y.mean((2, 3))], 1))


@pytest.mark.parametrize("act", [torch.relu, functional.gelu], ids=["relu", "gelu"])
@pytest.mark.parametrize("frozen", [False, True], ids=["trainable", "frozen"])
def test_what_an_activation_makes_of_a_lesion_is_exact(act, frozen: bool) -> None:
    """One channel and sets, at the mean and with peers, beside the exact divergence."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = Shortcut(act).double().eval().requires_grad_(not frozen)
        nn.init.uniform_(model.norm.weight, -2, 2)
        nn.init.uniform_(model.norm.bias, -2, 0)
    moments = measure(model, LOADER, layers=["conv"], positions=99, hull=False).moments
    options = {"calibration": moments, "form": "linearized"}
    found = damage(model, LOADER, **options)["conv"].values()
    measured = replace(model, LOADER, moments, peers="all", layers=["conv"])
    for kind, name in (("mean", "damage_alone"), ("all", "damage_with_peers")):
        exact = measured.mean_and_error("divergence")[0][measured.kind == kind]
        np.testing.assert_allclose(found[name], exact, rtol=1e-5, atol=1e-14)  # of divergences
    sets = {"conv": [(0, 2), (5, 1)]}
    together = damage(model, LOADER, channels=sets, **options)["conv"].values()["damage_alone"]
    exact, _ = lesion(
        model, LOADER, channels=sets, kinds=["mean"], calibration=moments
    ).mean_and_error("divergence")
    np.testing.assert_allclose(together, exact, rtol=1e-5)
    single = damage(model, LOADER, channels={"conv": [3, 0]}, **options)["conv"].values()
    for name, values in single.items():
        np.testing.assert_allclose(values, found[name][[3, 0]], rtol=NAIVE)


def test_what_is_pulled_back_has_the_curvature() -> None:
    """E[s sᵀ] = diag(p) - ppᵀ, which the Hessian of the cross-entropy is."""
    logits = 2 * torch.randn(5, 4, generator=GENERATOR, dtype=torch.float64)
    batch = next(batches([(torch.zeros(5, 1), torch.arange(5) % 4)]))
    p = logits.softmax(1)
    expected = torch.diag_embed(p) - p[:, :, None] * p[:, None]
    hessians = OfLoss(cross_entropy, 1, 0)._hessians(logits.clone(), batch.labels)
    torch.testing.assert_close(hessians, expected)
    for curvature in (OfPrediction(4000, 0), OfLoss(cross_entropy, 4000, 1)):
        s = curvature.cotangents(logits, batch)
        outer = s[:, :, :, None] * s[:, :, None]
        error = outer.std(0) / len(s) ** 0.5
        assert ((outer.mean(0) - expected).abs() <= STANDARD_ERRORS * error + 1e-12).all()
    units = OfEachLogit().cotangents(logits, batch)
    torch.testing.assert_close(units[:, 0], torch.eye(4, dtype=torch.float64))


def squared(outputs: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    return ((outputs - labels.reshape(outputs.shape)) ** 2).sum(1)


def test_regression_network_with_its_own_loss() -> None:
    """Squared error of three outputs: Σ_o a_oi² K_ii, and the part that peers leave."""
    problem = Problem()
    model = nn.Sequential(problem.model[0], nn.Linear(5, 3).double())
    targets = torch.zeros(len(problem.images), 3)
    found = damage(
        model,
        [(problem.images, targets)],
        calibration={"0": problem.moments},
        loss=squared,
        draws=100,
        ridge=0.0,
    )["0"]
    k = problem.covariance
    weights = model[1].weight.detach().square().sum(0).numpy()
    values, errors = found.values(), found.standard_errors()
    for name, power in (
        ("damage_alone", np.diag(k)),
        ("damage_with_peers", 1 / np.diag(np.linalg.inv(k))),
    ):
        # the draws' share of the error: the sample's own moments are exact
        assert (abs(values[name] - weights * power) < STANDARD_ERRORS * errors[name]).all()


class Depthwise(nn.Module):
    """Each channel by itself through two norms, activations and a depthwise layer; then a sum."""

    def __init__(self, stride: int) -> None:
        super().__init__()
        self.expand, self.norm = nn.Conv2d(3, 6, 1), nn.BatchNorm2d(6)
        self.each = nn.Conv2d(6, 6, 3, stride, 1, groups=6, bias=False)
        self.again, self.fc = nn.BatchNorm2d(6), nn.Linear(6, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = functional.relu6(self.norm(self.expand(x)), inplace=True)
        return 20 * self.fc(torch.relu(self.again(self.each(x))).mean((2, 3)))


@pytest.mark.parametrize("stride", [1, 2])
def test_what_a_depthwise_layer_and_its_activation_make_of_a_channel_is_taken_as_it_is(
    stride: int,
) -> None:
    torch.manual_seed(1)
    model = Depthwise(stride).double().eval()
    others = torch.randn(60, 3, 8, 8, dtype=torch.float64)
    known = measure(model, [(others, torch.arange(60) % 4)], standard_errors=False, hull=False)
    found = damage(model, LOADER, calibration=known, form="linearized").to_frame()
    measured = replace(model, LOADER, known, peers="all", method="naive")
    for kind, name in (("mean", "damage_alone"), ("all", "damage_with_peers")):
        exact = measured.select(measured.kind == kind).mean_and_error("divergence")[0]
        np.testing.assert_allclose(found[name], exact, rtol=1e-5, atol=1e-14)  # of divergences
