"""Bad calls of `empirical`: each is refused with argument, value and remedy."""

import pytest
import torch
from torch import nn

import empirical
from empirical.data.images import ImageSet
from tests.calls.refusals import (
    COUNTS,
    INDICES,
    INF,
    NAN,
    RATES,
    SHARES,
    SIZES,
    Good,
    assert_refused,
    rows,
)

GENERATOR = torch.Generator().manual_seed(0)
IMAGES = torch.randn(40, 1, 4, 4, generator=GENERATOR)
LABELS = torch.arange(40) % 2
LOADER = [(IMAGES[:20], LABELS[:20]), (IMAGES[20:], LABELS[20:])]
OTHERS = [(torch.randn(20, 1, 4, 4, generator=GENERATOR), LABELS[:20])]
MODEL = nn.Sequential(
    nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(16, 3), nn.ReLU(), nn.Linear(3, 2)
)
SET = ImageSet(
    "tiny/train",
    torch.randint(0, 255, (40, 1, 4, 4), dtype=torch.uint8, generator=GENERATOR),
    LABELS,
    ("a", "b"),
    (0.5,),
    (0.25,),
)
TABLE_OF_MODEL = empirical.measure(MODEL, LOADER, positions=2, groups=2)
LOADERS = (None, 3, [])
NUMBERS_OF_MEASURE = {
    "positions": COUNTS,
    "groups": ("text", NAN, INF, -1, 0, 1, 1.5),
    "seed": INDICES,
    "target": ("logit_margn", "", "margin"),
    "layers": (["9"], ["conv1"]),
}

TABLE = {
    "measure": Good(
        empirical.measure,
        {"model": MODEL, "loader": LOADER, "positions": 2, "groups": 2, "noise": 1.0},
        {
            **NUMBERS_OF_MEASURE,
            "model": (None, "resnet18"),
            "loader": LOADERS,
            "point": ("pre_nrom", None),
            "sampling": ("position", None),
            "noise": (None, "medan", -1, 0),
            "ridge": SIZES,
            "peers": COUNTS,
            "top": COUNTS,
            "null": INDICES,
            "first_image": INDICES,
            "precision": ("float16", None),
        },
    ),
    "gradient_cosines": Good(
        empirical.gradient_cosines,
        {"model": MODEL, "loader": LOADER, "positions": 2, "groups": 2},
        {**NUMBERS_OF_MEASURE, "loader": LOADERS, "groups": COUNTS},
    ),
    "merge_tables": Good(
        empirical.merge_tables, {"tables": [TABLE_OF_MODEL]}, {"tables": (None, 3, [], [3])}
    ),
    "lesion": Good(
        empirical.lesion,
        {"model": MODEL, "loader": LOADER, "kinds": ["zero"]},
        {
            "loader": LOADERS,
            "layers": ("0", ["9"], ["conv1"]),
            "channels": ({"0": [9]}, {"0": []}),
            "kinds": ("meen", [], ["zero", "zeros"], [None]),
            "method": ("slow", None),
            "memory": (None, "text", NAN, INF, -1, 1),
            "seed": INDICES,
        },
    ),
    "replace": Good(
        empirical.replace,
        {"model": MODEL, "loader": OTHERS, "calibration": TABLE_OF_MODEL, "peers": "all"},
        {
            "loader": LOADERS,
            "peers": ("hulls", [None]),
            "layers": ("0", ["9"]),
            "channels": ({"0": [9]}, {"0": [(0, 1)]}),
            "size": ("text", NAN, -1, 0, 1.5),
            "draws": COUNTS,
            "ridge": SIZES,
            "point": ("post_nrom", None),
            "method": ("slow",),
            "seed": INDICES,
        },
    ),
    "damage": Good(
        empirical.damage,
        {"model": MODEL, "loader": LOADER, "groups": 2, "positions": 2},
        {
            "loader": LOADERS,
            "calibration": (3, "text"),
            "layers": ("0", ["9"], ["conv1"]),
            "channels": ({"0": [9]}, {"0": []}),
            "point": ("pre_nrom", None),
            "form": ("quadratik", None),
            "draws": COUNTS,
            "ridge": SIZES,
            "positions": COUNTS,
            "groups": (*COUNTS, 1),
            "seed": INDICES,
        },
    ),
    "prune": Good(
        empirical.prune,
        {"model": MODEL, "loader": LOADER, "criterion": "l2", "recovery": "none"},
        {
            "loader": ([],),
            "macs": (*SHARES, 0),
            "criterion": ("l22", None, 3),
            "allocation": ("unifrom", None),
            "recovery": ("compensat", None),
            "path": ("mask", None),
            "floor": SHARES,
            "counts": ({"9": 1}, {"0": 0}, {"0": 9}, {"0": 1.5}, {"0": None}),
            "seed": INDICES,
            "skip": (["9"],),
        },
    ),
    "Calibration": Good(
        empirical.Calibration,
        {"model": MODEL, "loader": LOADER},
        {
            "batch_limit": ("text", NAN, 0, -1, 1.5),
            "gradient_images": COUNTS,
            "map_images": COUNTS,
            "refit_images": COUNTS,
        },
    ),
    "Factorial": Good(
        empirical.Factorial,
        {},
        {
            "criteria": (("l22",), (None,)),
            "allocations": (("unifrom",),),
            "recoveries": (("merged",),),
            "shares": ((0.0,), (1.5,), (NAN,), ("text",), (None,)),
            "draws": COUNTS,
        },
    ),
    "Recipe": Good(
        empirical.Recipe,
        {"epochs": 1},
        {
            "epochs": RATES,
            "batch_size": (*COUNTS, 1),
            "learning_rate": RATES,
            "optimizer": ("sdg", None),
            "momentum": (*SHARES, 1.0),
            "weight_decay": SIZES,
            "schedule": ("cosin", None),
            "warmup": (*SHARES, 1.0),
            "label_smoothing": (*SHARES, 1.0),
            "crop_padding": INDICES,
            "precision": ("float16", None),
        },
    ),
    "split_data": Good(
        empirical.split_data,
        {"train": SET, "test": SET, "calibration": 4},
        {"calibration": COUNTS, "selection": (*SHARES, 1.0), "seed": INDICES},
    ),
    "image_loader": Good(
        empirical.image_loader,
        {"image_set": SET},
        {"batch_size": COUNTS, "indices": ([-1], [40], [0.5], "text")},
    ),
    "load_data": Good(
        empirical.load_data,
        {"source": "digits"},
        {"source as data": ("digitss", "pyproject.toml"), "seed": INDICES},
    ),
    "create_model": Good(
        empirical.create_model,
        {"name": "small_convnet", "classes": 2, "image_size": 8},
        {
            "name as model": ("small_convnett", "", "no_such_module:f", None),
            "classes": (*COUNTS, 1),
            "image_size": COUNTS,
            "channels": COUNTS,
            "width": RATES,
            "seed": INDICES,
        },
    ),
    "latencies": Good(
        empirical.latencies,
        {"models": [MODEL], "images": IMAGES[:1], "repeats": 1, "warmup": 0},
        {"repeats": COUNTS, "warmup": INDICES},
    ),
    "find_layers": Good(
        empirical.find_layers,
        {"model": MODEL, "example": IMAGES[:1]},
        {"names as layers": (["9"], ["conv1"])},
    ),
    "evaluate": Good(
        empirical.evaluate, {"model": MODEL, "loader": LOADER}, {"loader": LOADERS}
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", TABLE)
def test_the_good_call_works(name):
    TABLE[name].run()


@pytest.mark.parametrize(("name", "argument", "value"), rows(TABLE))
def test_a_bad_call_is_refused(name, argument, value):
    assert_refused(TABLE[name], argument, value)
