"""Time as the budget: planted times and clocks, never the wall's."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from empirical.pruning.allocation import amount
from empirical.pruning.calibration import Calibration
from empirical.pruning.forecasting import forecast
from empirical.pruning.latency import Latency
from empirical.pruning.layer_times import MeasuredTimes
from empirical.pruning.macs import count_macs
from empirical.pruning.onnx_times import OnnxTimes
from empirical.pruning.pruner import NEAR_TIME, TIMED, prune
from tests.empirical.pruning_networks import batches, plain
from tests.empirical.test_layer_times import of_macs


@dataclass
class Planted:
    """Layers of so many seconds for each pair of channels; a clock that finds `factor` as much."""

    per_pair: dict[str, float]
    factor: float = 1.0
    rest: float = 0.0
    asked: int = 0

    def seconds(self, layer: str, inputs: np.ndarray, outputs: np.ndarray) -> np.ndarray:
        return self.per_pair[layer] * inputs * outputs

    def share(self, dense: nn.Module, pruned: nn.Module) -> float:
        self.asked += 1
        slow, fast = (
            sum(
                float(self.seconds(name, *np.array(m.weight.shape[1::-1], float)))
                for name, m in model.named_modules()
                if isinstance(m, (nn.Conv2d, nn.Linear))
            )
            for model in (dense, pruned)
        )
        return self.factor * fast / slow


def planted(factor: float = 1.0) -> tuple[nn.Module, Calibration, Planted]:
    """Of three hidden layers the last 1 × 1 one has few multiply-accumulates and most time."""
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(3, 24, 3, padding=1), nn.ReLU(), nn.Conv2d(24, 24, 3, padding=1), nn.ReLU(),
        nn.AvgPool2d(3), nn.Conv2d(24, 24, 1), nn.ReLU(), nn.Flatten(), nn.Linear(24 * 4, 10),
    ).eval()  # fmt: skip
    times = Planted({"0": 1e-6, "2": 1e-6, "5": 1e-3, "8": 1e-6}, factor)
    return model, Calibration(model, batches(3, 6, count=4), times=times), times


def test_the_whole_time_is_that_of_the_whole_network() -> None:
    """Whatever a clock says of two networks that are the same; and so is what is near enough."""
    model, known, _ = planted(factor=1.03)
    report = prune(model, known, latency=1.0, criterion="l2", recovery="none").report
    assert report.macs_share == 1.0
    model, known, _ = planted(factor=1.01)
    report = prune(model, known, latency=0.995, criterion="l2", recovery="none").report
    assert report.measured_time == pytest.approx(0.995, rel=NEAR_TIME)


def test_every_structure_is_timed_once() -> None:
    """In multiples of 12 of 24 channels there are few, between which the search goes on."""
    model, known, times = planted()
    with pytest.warns(UserWarning, match=r"nearest of [1-5] networks"):
        prune(model, known, latency=0.4, round_to=12, criterion="l2", recovery="none")
    assert times.asked <= 6


def test_times_that_are_given_later_count() -> None:
    """Also after the calibration, or its part that is fitted on, has measured its own."""
    model, known, times = planted()
    known.times = None
    fitted, _ = known.held_out()
    assert isinstance(fitted.layer_times, MeasuredTimes)
    assert fitted.layer_times is known.layer_times
    known.times = times
    prune(model, known, latency=0.5, criterion="l2", recovery="none")
    assert times.asked
    assert known.held_out()[0].layer_times is times
    known.times = "fast"
    with pytest.raises(TypeError, match="times must be a LayerTimes; got 'fast'"):
        prune(model, known, latency=0.5, criterion="l2", recovery="none")


class Steps(Planted):
    """Time goes in steps of .2, so that a request moved in proportion goes back and forth."""

    def share(self, dense: nn.Module, pruned: nn.Module) -> float:
        found = super().share(dense, pruned)
        return found + 0.12 if found > 0.45 else found - 0.12


def test_a_time_that_the_clock_does_not_find_is_said() -> None:
    model, known, times = planted()
    known.times = Steps(times.per_pair)
    with pytest.warns(UserWarning, match=r"latency=0\.5 is not met: the nearest of 8 networks"):
        prune(model, known, latency=0.5, criterion="l2", recovery="none")
    known.times = Planted(times.per_pair, factor=1000.0)
    with pytest.raises(ValueError, match=r"the fastest of \d networks takes .*round_to=8"):
        prune(model, known, latency=0.5, criterion="l2", recovery="none")


def test_time_of_whole_networks_is_not_foretold() -> None:
    model, known, _ = planted()
    known.times = OnnxTimes(known.graph, known.batch)
    with pytest.raises(ValueError, match="resource='latency' cannot be foretold by OnnxTimes"):
        forecast(model, known, resource="latency")


def test_a_time_below_what_every_width_takes_is_refused_with_the_least() -> None:
    """Of ten seconds nine are no layer's."""
    model, known, times = planted()
    times.rest = 9 * sum(times.seconds(n, *np.full((2, 1), 24.0))[0] for n in times.per_pair)
    with pytest.raises(ValueError, match=r"latency=0\.5 is below what the floors allow.*9"):
        prune(model, known, latency=0.5, recovery="none")


def test_the_slow_layer_with_few_multiply_accumulates_is_pruned() -> None:
    model, known, _ = planted()
    options = {"criterion": "task_replaceability", "allocation": "damage", "recovery": "none"}
    timed = prune(model, known, latency=0.5, **options).report
    counted = prune(model, known, macs=0.5, **options).report
    assert timed.channels["2"][1] * timed.channels["5"][1] == pytest.approx(0.5 * 24**2, rel=0.05)
    assert timed.channels["0"] == (24, 24)  # fast: time is not saved there
    assert counted.channels["0"][1] < 24
    assert timed.macs_share > counted.macs_share
    assert timed.reached == pytest.approx(0.5, rel=0.03)
    assert timed.measured_time == pytest.approx(0.5, rel=0.05)
    assert "measured in turns" in str(timed)


def test_counts_are_moved_until_the_clock_agrees() -> None:
    """A clock that finds 1.3 × the table's share: fewer channels stay, until it finds the half."""
    model, known, times = planted(factor=1.3)
    report = prune(model, known, latency=0.5, criterion="l2", recovery="none").report
    assert report.measured_time == pytest.approx(0.5, rel=NEAR_TIME)
    assert times.asked == 4  # what is near is timed again, and what is returned last


def test_a_request_between_two_steps_of_the_clock_is_met_by_halving() -> None:
    """.5 lies between .33 and .57: the search closes in on the step and takes its nearer end."""
    model, known, _ = planted()
    known.times = Steps(known.times.per_pair)
    with pytest.warns(UserWarning, match="nearest of 8 networks"):
        report = prune(model, known, latency=0.5, criterion="l2", recovery="none").report
    assert report.measured_time == report.reached == pytest.approx(0.57, abs=0.012)
    assert known.times.asked == TIMED + 1


class Slower(Planted):
    """Fewer channels take more time."""

    def seconds(self, layer: str, inputs: np.ndarray, outputs: np.ndarray) -> np.ndarray:
        return 1 / (inputs * outputs)


def test_a_network_that_no_removal_makes_faster_says_so() -> None:
    model, known, _ = planted()
    known.times = Slower({})
    with pytest.raises(ValueError, match=r"latency=0\.9 cannot be met.*ask for a share of macs"):
        prune(model, known, latency=0.9, recovery="none")


def test_time_in_onnx_runtime_is_that_of_whole_networks_in_blocks(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A clock that finds .2 beyond the multiply-accumulates, whatever these are."""
    model, known, _ = planted()
    known.times = OnnxTimes(known.graph, known.batch)
    whole = known.graph.macs()

    def clock(models: list[nn.Module], images: Tensor, seconds: float) -> list[Latency]:
        assert images is known.batch
        found = [0.2 + 0.8 * count_macs(m, images[:1]) / whole for m in models]
        return [Latency(t, t, t, 1, len(images)) for t in found]

    monkeypatch.setattr("empirical.pruning.onnx_times.onnx_latencies", clock)
    budget = known.budget("latency")
    assert amount(budget) == pytest.approx(whole)
    report = prune(model, known, latency=0.5, round_to=4, criterion="l2", recovery="none").report
    assert report.measured_time == pytest.approx(0.5, rel=0.05)
    assert report.macs_share == pytest.approx(3 / 8, abs=0.03)
    assert all(kept % 4 == 0 for _, kept in report.channels.values())


def test_a_masked_network_has_no_smaller_time() -> None:
    model, known, _ = planted()
    with pytest.raises(ValueError, match=r"latency=0\.5 does not go with path='masked'"):
        prune(model, known, latency=0.5, path="masked")


def test_prune_measures_by_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    """By a clock that counts: no table is given."""
    counting = partial(MeasuredTimes.of, clock=of_macs)
    monkeypatch.setattr("empirical.pruning.calibration.MeasuredTimes.of", counting)

    def clock(models: list[nn.Module], images: Tensor, seconds: float) -> list[Latency]:
        return [Latency(t := of_macs(m, images), t, t, 1, len(images)) for m in models]

    monkeypatch.setattr("empirical.pruning.layer_times.latencies", clock)
    model = plain((3, 16, 16), size=8)
    report = prune(model, batches(3, 8), latency=0.9, recovery="none").report
    assert report.measured_time == pytest.approx(0.9, rel=0.05)
    assert report.resource == "latency"
