"""`lesion`: what it reports, by hand where one can, and what it refuses."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from empirical import lesion, measure
from empirical.lesions.table import DAMAGES


class Counter(nn.Module):
    """Two channels that are the mean of one colour each; logits are these, and 0."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(2, 2, 1, bias=False)
        self.norm = nn.BatchNorm2d(2, eps=0.0)
        self.head = nn.Linear(2, 3, bias=False)
        with torch.no_grad():
            self.conv.weight.copy_(torch.eye(2)[:, :, None, None])
            self.head.weight.copy_(torch.tensor([[1.0, 0], [0, 1], [0, 0]]))

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.norm(self.conv(x)).mean((2, 3)))


def images(n: int, seed: int) -> Tensor:
    return torch.randn(n, 2, 3, 3, generator=torch.Generator().manual_seed(seed))


def labels(n: int) -> Tensor:
    return torch.arange(n) % 3


def loader(n: int = 12, seed: int = 0, batch: int = 5) -> list[tuple[Tensor, Tensor]]:
    return list(zip(images(n, seed).split(batch), labels(n).split(batch), strict=True))


def test_damage_by_hand() -> None:
    model = Counter().eval()
    table = lesion(model, loader(), kinds=["zero", "mean"], calibration=loader(9, seed=1))
    x, y = images(12, 0), labels(12)
    means = images(9, 1).mean((0, 2, 3))
    dense = functional.pad(x.mean((2, 3)), (0, 1)).double()
    for channel in (0, 1):
        for kind, value in (("zero", 0.0), ("mean", float(means[channel]))):
            lesioned = dense.clone()
            lesioned[:, channel] = value
            expected = functional.cross_entropy(
                lesioned, y, reduction="none"
            ) - functional.cross_entropy(dense, y, reduction="none")
            row = np.flatnonzero(
                (table.kind == kind) & [members == (channel,) for members in table.channels]
            )[0]
            np.testing.assert_allclose(table.damage["loss_increase"][row], expected, atol=1e-6)
            frame = table.to_frame().iloc[row]
            assert frame.loss_increase == pytest.approx(float(expected.mean()), abs=1e-6)
            error = float(expected.std(correction=1)) / np.sqrt(12)
            assert frame.loss_increase_se == pytest.approx(error, abs=1e-6)
            right = (lesioned.argmax(1) == y).double() - (dense.argmax(1) == y).double()
            assert frame.accuracy_drop == pytest.approx(-float(right.mean()), abs=1e-7)


def test_one_row_per_layer_channel_and_kind() -> None:
    frame = lesion(Counter(), loader(), kinds=("zero", "resample")).to_frame()
    assert frame[["layer", "channel", "kind", "point"]].to_numpy().tolist() == [
        ["conv", 0, "zero", "post_norm"],
        ["conv", 1, "zero", "post_norm"],
        ["conv", 0, "resample", "pre_norm"],
        ["conv", 1, "resample", "pre_norm"],
    ]
    assert {column for name in DAMAGES for column in (name, f"{name}_se")} <= set(frame)
    assert (frame.n_images == 12).all()


def test_measured_table_calibrates_as_its_own_images_do() -> None:
    model = Counter().eval()
    calibration = loader(30, seed=1, batch=30)
    by_table = lesion(model, loader(), kinds="mean", calibration=measure(model, calibration))
    by_loader = lesion(model, loader(), kinds="mean", calibration=calibration)
    # 9 positions a map, fewer than 16: both take all of them.
    for name in DAMAGES:
        np.testing.assert_allclose(by_table.damage[name], by_loader.damage[name], atol=1e-6)


def test_resampling_never_gives_an_image_its_own_channel() -> None:
    model = Counter().eval()
    table = lesion(model, loader(), kinds="resample")
    assert (table.damage["loss_increase"] != 0).all()


def test_progress_counts_every_lesion_of_every_batch() -> None:
    calls: list[tuple[int, int]] = []
    lesion(
        Counter(), loader(), kinds="zero", progress=lambda done, total: calls.append((done, total))
    )
    assert calls == [(2, 6), (4, 6), (6, 6)]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"kinds": ["mean"]}, "calibration must be given for kind 'mean'; got None"),
        ({"channels": {"conv": [(0, 0)]}}, "must hold sets of different channels"),
        ({"channels": {"conv": [1, 0, 1]}}, "must hold each channel once; got 1 more than once"),
        ({"channels": {"conv": [(0, 1), 1]}}, r"sets of one size; got sets of sizes \[1, 2\]"),
        ({"calibration": 3, "kinds": ["mean"]}, "calibration must be the result of measure"),
        ({"calibration": {}, "kinds": ["mean"]}, "calibration must hold moments of layer 'conv'"),
    ],
)
def test_bad_arguments_are_named(options: dict, message: str) -> None:
    with pytest.raises((ValueError, TypeError), match=message):
        lesion(Counter(), loader(), **({"kinds": ["zero"]} | options))


def test_images_shared_with_calibration_are_refused_and_counted() -> None:
    shared = [*loader(4, seed=1), (images(12, 0)[3:10], labels(7))]
    with pytest.raises(ValueError, match=r"7 of its images are among the 11 calibration images"):
        lesion(Counter(), loader(), kinds="mean", calibration=shared)


class Noisy(Counter):
    """Dropout that forgets to ask for the mode."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(functional.dropout(x, 0.5))


def test_a_model_that_is_not_deterministic_is_refused() -> None:
    with pytest.raises(ValueError, match="model must be deterministic in evaluation mode"):
        lesion(Noisy(), loader(), kinds="zero", method="naive")


class Diverging(Counter):
    """Infinite logits as soon as a channel is constant."""

    def forward(self, x: Tensor) -> Tensor:
        y = self.norm(self.conv(x))
        return self.head(y.mean((2, 3)) / y.std((2, 3)))


def test_a_lesion_that_gives_infinite_logits_is_named() -> None:
    with pytest.raises(ValueError, match=r"channels \[0\] of layer 'conv' gives NaN"):
        lesion(Diverging(), loader(), kinds="zero")


def test_labels_beyond_the_outputs_are_refused() -> None:
    with pytest.raises(ValueError, match="gives 7 and the model has 3 outputs"):
        lesion(Counter(), [(images(4, 0), torch.tensor([0, 1, 7, 2]))], kinds="zero")


def test_an_iterator_is_refused() -> None:
    with pytest.raises(TypeError, match="loader must be readable more than once"):
        lesion(Counter(), iter(loader()), kinds="zero")


def test_damages_that_memory_does_not_hold_are_refused_after_the_first_batch(monkeypatch) -> None:
    class Memory:
        available = 500

    model = Counter().eval()
    monkeypatch.setattr("empirical.data.images.psutil.virtual_memory", lambda: Memory)
    whole = [(images(12, 0), labels(12))]
    assert lesion(model, whole, kinds=["zero"]).n_images == 12  # there is nothing to foresee
    with pytest.raises(MemoryError, match=r"2 lesions on some 15 images take .*--shard"):
        lesion(model, loader(), kinds=["zero"])
