"""Bad calls of `sim`: each is refused with argument, value and remedy."""

import numpy as np
import pytest

import sim
from tests.calls.refusals import (
    COUNTS,
    INDICES,
    INF,
    NAN,
    RATES,
    SIZES,
    Good,
    assert_refused,
    checks_of,
)

SPECTRUM = sim.power_law(4, 1.0)
TASK, NETWORK = sim.Regression(SPECTRUM), sim.Network(width=4)
MANY = 10**12
SPECTRA = (None, "text", [], [-1.0, 1.0], [0.0, 0.0], [NAN, 1.0], [[1.0, 2.0], [2.0, 1.0]],
           np.ones((2, 3)))  # fmt: skip
RUN = sim.simulate(TASK, NETWORK, steps=4, seeds=2, records=3)


def square(setting):
    return {"square": setting["x"] ** 2}


TABLE = {
    "power_law": Good(
        sim.power_law,
        {"dimension": 4, "exponent": 1.0},
        {"dimension": (*COUNTS, MANY), "exponent": SIZES},
    ),
    "spiked": Good(
        sim.spiked,
        {"dimension": 4, "spikes": 1, "height": 2.0},
        {"dimension": (*COUNTS, MANY), "spikes": (*COUNTS, 5), "height": RATES},
    ),
    "isotropic": Good(sim.isotropic, {"dimension": 4}, {"dimension": (*COUNTS, MANY)}),
    "variance_shares": Good(
        sim.variance_shares,
        {"spectrum": SPECTRUM, "alignment": 1.0},
        {"spectrum": SPECTRA[:-1], "alignment": (None, "text", NAN, INF)},
    ),
    "Regression": Good(
        sim.Regression,
        {"spectrum": SPECTRUM},
        {
            "spectrum": SPECTRA,
            "outputs": COUNTS,
            "alignment": (None, "text", NAN, INF),
            "noise": SIZES,
            "seed": INDICES,
            "teacher": ("text", np.ones((1, 3)), np.empty((0, 4)), [[NAN] * 4]),
        },
    ),
    "Mixture": Good(
        sim.Mixture,
        {"spectrum": SPECTRUM},
        {
            "spectrum": (*SPECTRA, [1.0, 0.0]),
            "classes": (*COUNTS, 1),
            "separation": RATES,
            "alignment": (None, "text", NAN),
            "seed": INDICES,
        },
    ),
    "Network": Good(
        sim.Network,
        {"width": 4},
        {
            "width": (*COUNTS, 1),
            "depth": (*COUNTS, 1),
            "nonlinearity": ("rellu", None, 3),
            "scale": RATES,
            "balance": (None, "exakt", NAN, 0, -1),
            "coupling": ("text", NAN, INF),
        },
    ),
    "simulate": Good(
        sim.simulate,
        {"task": TASK, "network": NETWORK, "steps": 3, "seeds": 1, "records": 2, "hull": False},
        {
            "task": (None, "regression", SPECTRUM),
            "network": (None, "linear", 3),
            "steps": COUNTS,
            "seeds": (None, "text", 0, -1, 1.5, NAN, [], [1, 1], [-1], [0.5], MANY),
            "learning_rate": ("text", NAN, INF, 0, -1),
            "batch": INDICES,
            "samples": (*INDICES, 10),
            "records": (None, "text", 1, -1, 1.5, [], [9], [-1], ["text"]),
            "layer": (*COUNTS, 2),
            "threads": ("text", NAN, 0, -1, 1.5),
            "dtype": ("float16", None, "flaot64"),
            "hull": ("yes", None),
            "quantities": ("no", None),
            "progress": ("no", 3),
        },
    ),
    "stable_rate": Good(
        sim.stable_rate,
        {"task": TASK, "network": NETWORK},
        {"task": (None, 3), "network": (None, 3), "seeds": ([], [-1], [0.5])},
    ),
    "run_sweep": Good(
        sim.run_sweep,
        {"function": square, "settings": [{"x": 2}]},
        {"function": (None, "square", 3), "settings": (None, 3, [3], ["text"])},
    ),
    "trajectory.axis": Good(
        RUN.axis, {"name": "input_capture"}, {"name": ("capture", None), "target": ("lable", 3)}
    ),
    "trajectory.coupling": Good(
        RUN.coupling,
        {},
        {"first as name": ("captur",), "target": ("lable", None), "method": ("kendall", None)},
    ),
}  # fmt: skip

test_the_good_call_works, test_a_bad_call_is_refused = checks_of(TABLE)


@pytest.mark.parametrize("kind", ["folder", "empty", "other"])
def test_a_path_that_is_no_trajectory_is_refused(kind, tmp_path):
    path = tmp_path / "run.npz"
    if kind == "folder":
        path.mkdir()
    elif kind != "missing":
        path.write_bytes(b"" if kind == "empty" else b"text")
    RUN.save(tmp_path / "good.npz")
    good = Good(sim.Trajectory.load, {"path": tmp_path / "good.npz"})
    assert good.run() == RUN
    assert_refused(good, "path", path)
