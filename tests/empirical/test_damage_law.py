"""The law of damage: against identities, its definition written out, and exact lesions."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

from empirical import AxisTable, damage, lesion, measure, merge_tables, replace
from empirical.lesions.foretold import agreement
from empirical.lesions.scores import cross_entropy
from empirical.measuring.curvature import OfEachLogit, OfLoss, OfPrediction
from empirical.reading.batches import batches
from tests.empirical.test_lesion_identities import Problem
from tests.tolerances import NAIVE, STANDARD_ERRORS
from theory.lesion_identities import lesion_damage, set_lesion_damage
from theory.moments import Moments
from theory.peer_regression import regress_on_peers
from theory.rank_coupling import spearman

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
        np.testing.assert_allclose(found[name], exact, rtol=1e-5)
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


@pytest.mark.parametrize("size", [1, 7, 40])
def test_batches_of_any_size_give_the_same_damages(size: int) -> None:
    cut = [(IMAGES[i : i + size], LABELS[i : i + size]) for i in range(0, 40, size)]
    whole, parts = damage(net(), LOADER, joint=True), damage(net(), cut, joint=True)
    for layer, found in whole.layers.items():
        other = parts[layer]
        for name in ("alone", "with_peers", "joint"):
            np.testing.assert_allclose(
                getattr(other, name), getattr(found, name), rtol=NAIVE, atol=1e-18
            )


def test_nothing_is_left_behind() -> None:
    model = net()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    damage(model, LOADER)
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())
    assert all(parameter.grad is None for parameter in model.parameters())
    assert not any(module._forward_hooks for module in model.modules())


def test_a_joint_table_holds_the_damage_of_every_set() -> None:
    table = damage(net(), LOADER, joint=True, draws=2)["wide"]
    values, errors = table.of_sets([[3], [5]])
    single = table.values()["damage_alone"]
    np.testing.assert_allclose(values, single[[3, 5]], rtol=NAIVE)
    np.testing.assert_allclose(errors, table.standard_errors()["damage_alone"][[3, 5]], rtol=1e-6)
    both = damage(net(), LOADER, channels={"wide": [(3, 5)]}, draws=2)["wide"]
    np.testing.assert_allclose(
        table.of_sets([[3, 5]])[0], both.values()["damage_alone"], rtol=NAIVE
    )


def test_measure_holds_the_same_columns_saves_and_merges_them(tmp_path) -> None:
    model = net()
    table = measure(model, LOADER, positions=16, damage=True)
    direct = damage(model, LOADER, positions=16)
    columns = ["damage_alone", "damage_alone_se", "damage_with_peers", "recovered", "recovered_se"]
    frame = table.to_frame()
    for name in columns:
        np.testing.assert_allclose(frame[name], direct.to_frame()[name], rtol=1e-6)
    table.save(tmp_path / "axes.npz", moments="groups")
    loaded = AxisTable.load(tmp_path / "axes.npz")
    np.testing.assert_array_equal(loaded.to_frame()[columns], frame[columns])
    halves = [
        measure(model, [LOADER[0]], damage=True, groups=4),
        measure(model, [LOADER[1]], damage=True, groups=4, first_image=13),
    ]
    merged = merge_tables(halves).to_frame()["damage_alone"]
    weights = [13 / 40, 27 / 40]
    parts = [half.to_frame()["damage_alone"] for half in halves]
    np.testing.assert_allclose(merged, sum(w * p for w, p in zip(weights, parts, strict=True)))


def test_foretold_ranks_what_lesions_and_replacements_measure() -> None:
    model = net()
    names = ["a", "depthwise", "wide"]
    calibration = measure(model, LOADER, layers=names, positions=99, hull=False)
    other = torch.randn(60, 3, 8, 8, generator=GENERATOR, dtype=torch.float64)
    measured = replace(
        model, [(other, torch.arange(60) % 4)], calibration, layers=names, peers="all"
    )
    table = damage(model, LOADER, calibration=calibration, layers=names, form="linearized")
    found = agreement(measured, table)
    assert set(found.channels["kind"]) == {"mean", "all"}
    assert len(found.channels) == 2 * 32
    wide = found.layers.set_index(["layer", "kind"]).loc[("wide", "mean")]
    assert wide["spearman"] > 0.9
    assert wide["spearman_low"] <= wide["spearman"] <= wide["spearman_high"]
    assert abs(wide["ratio"] - 1) < 5 * wide["ratio_se"]
    with pytest.raises(ValueError, match="measured must hold lesions of kind 'mean' or 'all'"):
        agreement(lesion(model, LOADER, layers=["a"], kinds=["zero"]), table)


def test_divergence_is_that_of_the_edited_network() -> None:
    model = net()
    table = lesion(model, LOADER, layers=["a"], kinds=["zero"])
    p, row = torch.softmax(model(IMAGES), 1), 2
    with torch.no_grad():
        model.norm.weight[row] = model.norm.bias[row] = 0
    q = torch.softmax(model(IMAGES), 1)
    expected = (p * (p / q).log()).sum(1).detach().numpy()
    np.testing.assert_allclose(table.damage["divergence"][row], expected, rtol=1e-5, atol=1e-12)


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


BAD = [
    ({"form": "cubic"}, "form must be one of 'quadratic', 'linearized'"),
    ({"form": "linearized", "loss": squared}, "form must be 'quadratic' with a loss"),
    ({"form": "linearized", "joint": True}, "joint needs every single channel"),
    ({"channels": {"a": [0]}, "joint": True}, "joint needs every single channel"),
    ({"channels": {"a": [9]}}, r"channels\['a'\] must be in 0 .. 5"),
    ({"layers": ["b"]}, "layers must be one of"),
    ({"groups": 1}, "groups must be"),
    ({"draws": 0}, "draws must be"),
    ({"groups": 41}, "loader must yield at least"),
    ({"loss": lambda f, _: -f.exp().sum(1)}, "loss must be convex"),
    ({"loss": lambda f, _: f.sum(1)}, "loss must be curved"),
    ({"loss": lambda f, _: f.sum()}, "loss must return one differentiable value"),
    ({"calibration": 3}, "calibration must be"),
]


@pytest.mark.parametrize(("options", "message"), BAD, ids=[str(n) for n in range(len(BAD))])
def test_bad_arguments_are_named(options, message: str) -> None:
    with pytest.raises((ValueError, TypeError), match=message):
        damage(net(), LOADER, **options)


def test_a_loader_that_changes_its_order_is_refused() -> None:
    data = torch.utils.data.TensorDataset(IMAGES, LABELS)
    loader = torch.utils.data.DataLoader(
        data, batch_size=20, shuffle=True, generator=torch.Generator().manual_seed(0)
    )
    with pytest.raises(ValueError, match="loader must give the same images in the same order"):
        damage(net(), loader)
    with pytest.raises(TypeError, match="loader must be readable more than once"):
        damage(net(), iter(LOADER))
    with pytest.raises(ValueError, match="sampling must be 'positions' with damage=True"):
        measure(net(), LOADER, damage=True, sampling="pooled")


def test_a_model_without_gradients_is_refused() -> None:
    class Detached(Net):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return super().forward(x).detach()

    with pytest.raises(ValueError, match="model must be differentiable"):
        damage(Detached().double(), LOADER)


def test_halved_batches_give_the_same_damages(monkeypatch) -> None:
    """Where memory ends, the batch goes on in parts; nothing of the failed one is left."""
    whole, model = damage(net(), LOADER), net()
    seen, forward = [], Net.forward

    def short(self: Net, x: torch.Tensor) -> torch.Tensor:
        seen.append(len(x))
        y = forward(self, x)
        if torch.is_grad_enabled() and len(x) > 5:
            raise torch.OutOfMemoryError
        return y

    monkeypatch.setattr(Net, "forward", short)
    with pytest.warns(RuntimeWarning, match="out of device memory"):
        found = damage(model, LOADER)
    assert max(seen) > 5
    for layer, own in whole.layers.items():
        np.testing.assert_allclose(found[layer].alone, own.alone, rtol=NAIVE, atol=1e-18)


def test_one_draw_on_many_images_ranks_channels_as_many_draws_do() -> None:
    one, many = damage(net(), LOADER), damage(net(), LOADER, draws=30, seed=1)
    a, b = (table["wide"].values()["damage_alone"] for table in (one, many))
    assert spearman(a, b) > 0.9
