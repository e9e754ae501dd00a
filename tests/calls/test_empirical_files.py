"""Bad calls of what writes or reads files in `empirical`."""

import torch

import empirical
from tests.calls.refusals import SEEDS, Good, checks_of
from tests.calls.test_empirical import (
    CONFIG,
    IMAGES,
    LOADER,
    MODEL,
    PATHS,
    PRUNED,
    TABLE_OF_MODEL,
    TRUTHS,
)

OUTSIDE = {
    "run": Good(
        empirical.run,
        {"config": CONFIG, "out": "nowhere"},
        {
            "config": (None, 3, "nowhere.toml"),
            "config as seeds": ({"seeds": []},),
            "config as sed": ({"sed": [0]},),
            "out": PATHS,
            "overrides as override|--set": ([3], ["x"]),
            "progress": (3,),
            "download": TRUTHS,
        },
    ),
    "run_factorial": Good(
        empirical.run_factorial,
        {
            "known": empirical.Calibration(MODEL, LOADER),
            "report": LOADER,
            "out": "nowhere",
            "network": "tiny",
            "seed": 0,
        },
        {
            "known": (None, MODEL),
            "report": (None, 3),
            "out": PATHS,
            "network": (None, 3),
            "seed": SEEDS,
            "factorial": (3,),
            "inputs": (3,),
            "progress": (3,),
        },
    ),
    "export_onnx": Good(
        empirical.export_onnx,
        {"path": "nowhere.onnx", "model": MODEL, "example": IMAGES[:1]},
        {"model": (None, 3), "example": (None, "text", torch.zeros(1, 3, 4, 4))},
    ),
    "export_program": Good(
        empirical.export_program,
        {"path": "nowhere.pt2", "model": MODEL, "example": IMAGES[:1]},
        {"model": (None, 3), "example": (None, "text", torch.zeros(1, 3, 4, 4))},
    ),
    "save_pruned": Good(
        empirical.save_pruned,
        {"path": "nowhere.safetensors", "pruned": PRUNED},
        {"path": (*PATHS, "tests"), "pruned": (None, MODEL), "spec": ("small_convnet",)},
    ),
    "load_pruned": Good(
        empirical.load_pruned, {}, {"path as checkpoint": (*PATHS, "nowhere", "tests")}
    ),
    "load_model": Good(
        empirical.load_model, {}, {"path as checkpoint": (*PATHS, "nowhere", "tests")}
    ),
    "load_weights": Good(
        empirical.load_weights,
        {"model": MODEL},
        {"path as checkpoint": (*PATHS, "nowhere", "tests")},
    ),
    "AxisTable.save": Good(
        TABLE_OF_MODEL.save, {"path": "nowhere.npz"}, {"path": (*PATHS, "tests"),
        "moments": ("grups", None)}
    ),
    "AxisTable.load": Good(
        empirical.AxisTable.load, {}, {"path": (*PATHS, "nowhere", "pyproject.toml")}
    ),
}  # fmt: skip


test_a_bad_call_is_refused = checks_of(OUTSIDE)[1]
