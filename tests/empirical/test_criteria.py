"""Criteria on cases worked by hand, and what each says where it is not defined."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import get_args

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

from empirical import measure, prune, register_criterion
from empirical.pruning.calibration import Calibration
from empirical.pruning.channel_graph import Group
from empirical.pruning.choosing import Request
from empirical.pruning.criteria import (
    comparable,
    criterion_names,
    criterion_of,
    criterion_rows,
    scores,
)
from empirical.pruning.criteria_gradients import loss_gradients
from empirical.pruning.criteria_information import COMBINATIONS, axis_scores
from empirical.pruning.criteria_maps import average_rank, channel_independence
from empirical.pruning.criterion import REGISTRY, Axis, Criterion, Knowledge, ranks
from empirical.reading.batches import batches as checked
from tests.empirical.pruning_networks import batches, plain
from theory import Moments, channel_axes

FLOAT32 = 1e-5
"""Relative tolerance of sums in float32."""

EXACT = 1e-9
"""Moments of one group against those of ten, merged: rounding in float64."""


@pytest.fixture(scope="module")
def known() -> Calibration:
    return Calibration(plain((3, 6, 8)), batches(3, 6, count=10), map_images=16)


def chain() -> tuple[nn.Sequential, Calibration]:
    """Two linear layers whose every score can be written down."""
    model = nn.Sequential(nn.Linear(2, 3), nn.Linear(3, 2)).eval()
    with torch.no_grad():
        model[0].weight.copy_(torch.tensor([[3.0, 4.0], [0.0, 1.0], [1.0, -1.0]]))
        model[0].bias.zero_()
        model[1].weight.copy_(torch.tensor([[1.0, 2.0, 0.0], [2.0, 0.0, 3.0]]))
        model[1].bias.zero_()
    generator = torch.Generator().manual_seed(0)
    images = torch.randn(64, 2, generator=generator)
    return model, Calibration(model, [(images, torch.randint(2, (64,), generator=generator))])


@pytest.mark.parametrize("name", criterion_names())
def test_every_criterion_gives_finite_scores_of_every_unit(name: str, known: Calibration) -> None:
    found = scores(known, name)
    assert {key: value.shape for key, value in found.items()} == {"0": (6,), "3": (8,)}
    assert all(np.isfinite(value).all() for value in found.values())
    if not name.endswith("hull_size"):  # whole numbers, which may all agree
        assert all(np.unique(value).size > 1 for value in found.values())


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("l1", [7.0, 1.0, 2.0]),
        ("l2", [5.0, 1.0, 2**0.5]),
        ("group_l1", [(7 + 3) / 2, (1 + 2) / 2, (2 + 3) / 2]),  # filters and reading columns
        ("group_l2", [(25 + 5) / 2, (1 + 4) / 2, (2 + 9) / 2]),
        # 15, 2.5, 5.5 ascending, each over the sum of itself and all larger ones
        ("lamp", [1.0, 2.5 / 23, 5.5 / 20.5]),
    ],
)
def test_norms_by_hand(name: str, expected: list[float]) -> None:
    _, calibration = chain()
    assert scores(calibration, name)["0"] == pytest.approx(expected, rel=FLOAT32)


def test_batch_norm_scale_is_its_weight(known: Calibration) -> None:
    expected = known.model[1].weight.detach().abs().numpy()
    assert scores(known, "bn_scale")["0"] == pytest.approx(expected, rel=FLOAT32)


def test_taylor_and_hessian_from_gradients_by_autograd() -> None:
    model, calibration = chain()
    (images, labels), *_ = calibration.loader
    parameters = [model[0].weight, model[1].weight]

    def gradients(rows: slice) -> tuple[torch.Tensor, ...]:
        return torch.autograd.grad(
            functional.cross_entropy(model(images[rows]), labels[rows]), parameters
        )

    first, second = gradients(slice(None))
    taylor = ((parameters[0] * first).abs().sum(1) + (parameters[1] * second).abs().sum(0)) / 2
    assert scores(calibration, "taylor")["0"] == pytest.approx(taylor.detach().numpy(), rel=1e-4)
    each = [gradients(slice(i, i + 1)) for i in range(64)]
    squares = [torch.stack(g).square().mean(0) for g in zip(*each, strict=True)]
    fisher = [p.square() * g for p, g in zip(parameters, squares, strict=True)]
    expected = (fisher[0].sum(1) + fisher[1].sum(0)) / 2
    assert scores(calibration, "hessian")["0"] == pytest.approx(expected.detach().numpy(), rel=1e-4)


def test_squared_gradients_average_over_images_not_batches() -> None:
    model, calibration = chain()
    (images, labels), *_ = calibration.loader
    parts = [(images[:5], labels[:5]), (images[5:], labels[5:])]
    whole, split = (
        loss_gradients(model, checked(loader), 64, "square")
        for loader in ([(images, labels)], parts)
    )
    for key, value in whole.items():
        torch.testing.assert_close(split[key], value)


def test_rank_and_independence_of_feature_maps() -> None:
    rng = np.random.default_rng(0)
    one = np.outer(rng.random(4), rng.random(4))
    two = one + np.outer(rng.random(4), rng.random(4))
    full = rng.random((4, 4))
    maps = torch.tensor(np.stack([one, two, full])[None])
    assert average_rank(maps).tolist() == [1.0, 2.0, 4.0]
    zero = torch.zeros(1, 1, 4, 4)
    assert average_rank(torch.cat([maps[:, :1], zero], 1)).tolist() == [1.0, 0.0]


@pytest.mark.parametrize("shape", [(3, 5, 2, 2), (3, 4, 3, 3), (2, 1, 2, 2)])
def test_independence_equals_nuclear_norms_by_singular_values(shape: tuple[int, ...]) -> None:
    maps = torch.tensor(np.random.default_rng(1).standard_normal(shape))
    rows = maps.flatten(2).numpy()
    expected = [
        np.mean(
            [
                np.linalg.norm(image, "nuc") - np.linalg.norm(np.delete(image, i, 0), "nuc")
                if len(image) > 1
                else np.linalg.norm(image)
                for image in rows
            ]
        )
        for i in range(shape[1])
    ]
    assert channel_independence(maps).numpy() == pytest.approx(expected, rel=1e-6)


def test_both_directions_of_a_quantity_are_opposite(known: Calibration) -> None:
    keep, drop = scores(known, "task_information"), scores(known, "-task_information")
    for name, value in keep.items():
        assert value == pytest.approx(-drop[name])
        assert value == pytest.approx(known.axes[name].task_information)


def test_dead_channels_go_first_and_copies_have_the_largest_overlap() -> None:
    rng = np.random.default_rng(0)
    y = rng.standard_normal((400, 5))
    y[:, 1], y[:, 4] = y[:, 0], 0.0
    axes = channel_axes(Moments.from_samples(y, y[:, 2] + rng.standard_normal(400)))
    for quantity, sign in (("peer_overlap", 1), ("peer_overlap", -1), ("peer_predictability", -1)):
        value = axis_scores(axes, quantity, sign)
        assert np.isfinite(value).all()
        assert value.argmin() == 4, (quantity, sign)
    assert set(np.argsort(axis_scores(axes, "peer_overlap", 1))[-2:]) == {0, 1}


def test_combinations_are_mean_ranks_of_their_parts(known: Calibration) -> None:
    for name, parts in COMBINATIONS.items():
        found = scores(known, name)
        for group, value in found.items():
            expected = np.mean([ranks(scores(known, part)[group]) for part in parts], axis=0)
            assert value == pytest.approx(expected)


def test_random_draws_differ_by_seed_and_group_and_repeat(known: Calibration) -> None:
    first, again, other = (scores(known, "random", seed=s) for s in (0, 0, 1))
    assert all((first[k] == again[k]).all() for k in first)
    assert all((first[k] != other[k]).all() for k in first)
    assert not np.isin(first["0"], first["3"]).any()


def test_global_comparison_divides_norms_by_their_group_mean_and_leaves_nats_alone() -> None:
    found = {"a": np.array([1.0, 3.0]), "b": np.array([10.0, 30.0])}
    assert comparable("l2", found)["b"] == pytest.approx([0.5, 1.5])
    assert comparable("task_information", found) is found


def test_every_criterion_says_where_it_comes_from_and_on_which_axis() -> None:
    rows = {name: (axis, source) for name, axis, source in criterion_rows()}
    assert list(rows) == criterion_names()
    assert all(axis in get_args(Axis) and source for axis, source in rows.values())
    assert rows["-peer_overlap"][0] == "local"
    assert rows["two_axis"] == ("both", "mean rank of -peer_predictability, task_information")
    assert [name for name in rows if REGISTRY[name].stochastic] == ["random"]


def test_calibration_keeps_the_moments_of_one_group_and_the_numbers_of_ten(
    known: Calibration,
) -> None:
    assert known.table.settings["groups"] == 1
    table = measure(known.model, known.loader, layers=["0", "3"], estimate="plug_in")
    for name, axes in table.axes.items():
        for quantity in ("task_information", "peer_predictability", "conditional_task_information"):
            expected = pytest.approx(getattr(axes, quantity), rel=EXACT)
            assert getattr(known.axes[name], quantity) == expected


@pytest.fixture
def registry() -> Iterator[dict[str, Criterion]]:
    """The registry, left as it was."""
    before = dict(REGISTRY)
    yield REGISTRY
    REGISTRY.clear()
    REGISTRY.update(before)


def test_a_registered_criterion_works_by_name(
    known: Calibration, registry: dict[str, Criterion]
) -> None:
    @register_criterion("bias", axis="weights", source="the layer's bias", across="raw")
    def bias(known: Knowledge, group: Group) -> torch.Tensor:
        return known.model.get_submodule(group.name).bias

    assert bias.__name__ == "bias"
    assert ("bias", "weights", "the layer's bias") in criterion_rows()
    found = scores(known, "bias")
    assert found["3"] == pytest.approx(known.model[3].bias.detach().numpy())
    assert comparable("bias", found) is found


def test_a_stochastic_criterion_draws_from_the_seed_and_the_group(
    known: Calibration, registry: dict[str, Criterion]
) -> None:
    @register_criterion("noise", axis="none", source="a test", stochastic=True)
    def noise(_: Knowledge, group: Group, generator: np.random.Generator) -> np.ndarray:
        return generator.normal(size=group.units)

    first, again, other = (known.scores("noise", seed=s) for s in (3, 3, 4))
    assert again is first
    assert all((first[k] != other[k]).all() for k in first)
    assert (first["0"] != first["3"][:6]).all()
    assert known.scores("l2", seed=3) is known.scores("l2", seed=4)


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ({"name": "l2"}, r"name must not be taken; 'l2' is a criterion already \(norm of"),
        ({"axis": "loca"}, r"axis must be one of 'local'.*got 'loca'\. Did you mean 'local'"),
        (
            {"across": "men"},
            r"across must be one of 'raw', 'mean'; got 'men'\. Did you mean",
        ),
        ({"source": ""}, r"source must say where the criterion comes from"),
    ],
)
def test_a_registration_names_what_is_wrong(arguments: dict[str, str], text: str) -> None:
    with pytest.raises(ValueError, match=text):
        register_criterion(**{"name": "new", "axis": "local", "source": "a test", **arguments})
    assert "new" not in REGISTRY


def test_a_function_is_a_criterion(known: Calibration) -> None:
    def backwards(known: Knowledge, group: Group) -> list[float]:
        return [-float(unit) for unit in range(group.units)]

    pruned = prune(known.model, known, counts={"0": 4, "3": 5}, criterion=backwards)
    assert pruned.report.criterion == "backwards"
    assert {name: kept.tolist() for name, kept in pruned.kept.items()} == {
        "0": [0, 1, 2, 3], "3": [0, 1, 2, 3, 4],
    }  # fmt: skip
    assert known.scores(backwards) is known.scores(backwards)
    assert comparable(backwards, {"a": np.array([1.0, 3.0])})["a"] == pytest.approx([0.5, 1.5])
    counts = Request(0.5, backwards, "global").kept(known)
    assert known.graph.macs(np.array([len(k) for k in counts.values()])) == pytest.approx(
        0.5 * known.graph.macs(), rel=0.05
    )


def test_a_function_named_as_a_criterion_is_not_taken_for_it() -> None:
    def l2(known: Knowledge, group: Group) -> np.ndarray:
        return np.zeros(group.units)

    assert criterion_of(l2).name == "function l2"
    assert criterion_of("l2").name == "l2"


@pytest.mark.parametrize(
    ("values", "text"),
    [
        (
            lambda units: np.zeros(units + 1),
            r"criterion 'own' must give one score per unit, \(6,",
        ),
        (lambda units: None, r"criterion 'own' must give one score per unit.*got shape \(\)"),
        (
            lambda units: np.where(np.arange(units) == 2, np.inf, 0),
            r"criterion 'own' is not finite on layer '0': 1 of 6 channels, the first 2",
        ),
    ],
)
def test_what_a_function_gives_is_checked(
    known: Calibration, values: Callable[[int], object], text: str
) -> None:
    def own(known: Knowledge, group: Group) -> object:
        return values(group.units)

    with pytest.raises(ValueError, match=text):
        prune(known.model, known, criterion=own)
    with pytest.raises(TypeError, match=r"criterion must be a name or a function.*got a int"):
        prune(known.model, known, criterion=3)


def test_a_criterion_that_is_not_defined_says_so() -> None:
    _, calibration = chain()
    with pytest.raises(ValueError, match="criterion 'bn_scale' is not defined on layer '0'"):
        scores(calibration, "bn_scale")


def test_a_score_that_is_not_finite_names_criterion_and_layer() -> None:
    model, calibration = chain()
    with torch.no_grad():
        model[0].weight[1, 0] = float("nan")
    with pytest.raises(ValueError, match=r"criterion 'l2' is not finite on layer '0': 1 of 3"):
        scores(calibration, "l2")


def test_what_torch_pruning_cannot_score_is_named() -> None:
    model = nn.Sequential(
        nn.Conv2d(3, 16, 3), nn.ReLU(), nn.Conv2d(16, 12, 3, groups=2), nn.ReLU(),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(12, 4),
    ).eval()  # fmt: skip
    known = Calibration(model, batches(3, 8, each=32))
    with pytest.raises(ValueError, match=r"'group_fpgm' of torch-pruning fails on layer '0'"):
        known.scores("group_fpgm")
