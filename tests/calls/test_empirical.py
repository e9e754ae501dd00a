"""Bad calls of `empirical`: each is refused with argument, value and remedy."""

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
    SEEDS,
    SHARES,
    SIZES,
    Good,
    checks_of,
)  # fmt: skip

GENERATOR = torch.Generator().manual_seed(0)
IMAGES = torch.randn(40, 1, 4, 4, generator=GENERATOR)
LABELS = torch.arange(40) % 2
LOADER = [(IMAGES[:20], LABELS[:20]), (IMAGES[20:], LABELS[20:])]
OTHERS = [(torch.randn(20, 1, 4, 4, generator=GENERATOR), LABELS[:20])]
MODEL = nn.Sequential(
    nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(16, 3), nn.ReLU(), nn.Linear(3, 2)
)
PIXELS = torch.randint(0, 255, (40, 1, 4, 4), dtype=torch.uint8, generator=GENERATOR)
SET = ImageSet("tiny/train", PIXELS, LABELS, ("a", "b"), (0.5,), (0.25,))
SPEC = {"name": "small_convnet", "classes": 2, "image_size": 8, "channels": 1}
TRUTHS = ("yes", None, 1)
PATHS = (None, 3)
PRUNED = empirical.prune(MODEL, LOADER, criterion="l2", recovery="none")
LESIONED = empirical.lesion(MODEL, LOADER, kinds=["zero"])
CONFIG = {"seeds": [0], "data": {"calibration": 60}}
TABLE_OF_MODEL = empirical.measure(MODEL, LOADER, positions=2, groups=2)
LOADERS = (None, 3, [])


def entered(context, model, **functions):
    """Enter `capture` or `edit` of a model."""
    with context(model, **functions):
        return True


NUMBERS_OF_MEASURE = {
    "positions": COUNTS,
    "groups": ("text", NAN, INF, -1, 0, 1, 1.5),
    "seed": SEEDS,
    "target": ("logit_margn", "", "margin"),
    "layers": (["9"], ["conv1"], "3", []),
    "device": ("gpu", "cuda:x", 3.5),
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
            "hull": TRUTHS,
            "standard_errors": TRUTHS,
            "bias_correction": TRUTHS,
            "progress": TRUTHS,
            "exact": TRUTHS,
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
            "layers": ("0", ["9"], ["conv1"], []),
            "channels": (
                *({"0": [9]}, {"0": [-1]}, {"0": []}, {"0": 3}, {"0": None}, {"0": ["x"]}),
                *({"9": [0]}, 3),
            ),
            "kinds": ("meen", [], ["zero", "zeros"], [None]),
            "method": ("slow", None),
            "memory": ("text", NAN, INF, -1, 1),
            "seed": SEEDS,
            "loss": (None, "mse"),
            "progress": ("no", 3, True),
        },
    ),
    "replace": Good(
        empirical.replace,
        {"model": MODEL, "loader": OTHERS, "calibration": TABLE_OF_MODEL, "peers": "all"},
        {
            "loader": LOADERS,
            "peers": ("hulls", [None], []),
            "layers": ("0", ["9"]),
            "channels": ({"0": [9]}, {"0": [(0, 1)]}, {"9": [0]}, {"0": [1, 1]}),
            "size": ("text", NAN, -1, 0, 1.5),
            "draws": COUNTS,
            "ridge": SIZES,
            "point": ("post_nrom", None),
            "method": ("slow",),
            "seed": SEEDS,
            "loss": (None, "mse"),
            "progress": ("no", 3, True),
        },
    ),
    "damage": Good(
        empirical.damage,
        {"model": MODEL, "loader": LOADER, "groups": 2, "positions": 2},
        {
            "loader": LOADERS,
            "calibration": (3, "text"),
            "layers": ("0", ["9"], ["conv1"]),
            "channels": ({"0": [9]}, {"0": []}, {"0": [1, 0, 1]}),
            "point": ("pre_nrom", None),
            "form": ("quadratik", None),
            "loss": ("mse", 3),
            "draws": COUNTS,
            "ridge": SIZES,
            "positions": COUNTS,
            "groups": (*COUNTS, 1),
            "seed": SEEDS,
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
            "flip": TRUTHS,
            "channels_last": TRUTHS,
            "compile": TRUTHS,
        },
    ),
    "split_data": Good(
        empirical.split_data,
        {"train": SET, "test": SET, "calibration": 4},
        {
            "train": (None, 3),
            "test": (None, LOADER),
            "calibration": COUNTS,
            "selection": (*SHARES, 1.0),
            "seed": SEEDS,
        },
    ),
    "image_loader": Good(
        empirical.image_loader,
        {"image_set": SET},
        {"image_set": (None, 3), "batch_size": COUNTS, "indices": ([-1], [40], [0.5], "text")},
    ),
    "load_data": Good(
        empirical.load_data,
        {"source": "digits"},
        {
            "source as data": ("digitss", "pyproject.toml", None, 3),
            "seed": SEEDS,
            "images": (3, (1,)),
            "download": TRUTHS,
        },
    ),
    "create_model": Good(
        empirical.create_model,
        {"name": "small_convnet", "classes": 2, "image_size": 8},
        {
            "name as model": (
                *("small_convnett", "", "no_such_module:f", None),
                *("nowhere.py:f", ":f", "torch.nn:Linear"),
            ),
            "classes": (*COUNTS, 1),
            "image_size": COUNTS,
            "channels": COUNTS,
            "width": RATES,
            "seed": SEEDS,
        },
    ),
    "latencies": Good(
        empirical.latencies,
        {"models": [MODEL], "images": IMAGES[:1], "repeats": 1, "warmup": 0},
        {
            "models": (None, 3, "x"),
            "images": (None, "x", IMAGES[:, 0]),
            "repeats": COUNTS,
            "warmup": INDICES,
        },
    ),
    "find_layers": Good(
        empirical.find_layers,
        {"model": MODEL, "example": IMAGES[:1]},
        {"model": (None, 3), "example": (None, 3), "names as layers": (["9"], ["conv1"])},
    ),
    "evaluate": Good(
        empirical.evaluate,
        {"model": MODEL, "loader": LOADER},
        {"loader": LOADERS, "device": ("gpu", 3.5)},
    ),
    "ImageSet": Good(
        ImageSet,
        {**vars(SET)},
        {
            "name": (None, 3),
            "images": (None, "text", IMAGES),
            "labels": (None, [0, 1], LABELS[:3], LABELS.float(), LABELS + 5),
            "class_names": (None, "ab", ("a", "a"), ("a",)),
            "mean": (None, 0.5, (0.5, 0.5), ("a",), (NAN,)),
            "std": (None, 0.5, (0.0,), (-1.0,), (NAN,)),
        },
    ),
    "ImageSet.subset": Good(SET.subset, {"indices": [0]}, {"indices": ([-1], [40], None)}),
    "ModelSpec": Good(
        empirical.ModelSpec,
        SPEC,
        {
            "name as model": (None, 3, "", "small_convnett"),
            "classes": (*COUNTS, 1),
            "image_size": COUNTS,
            "channels": COUNTS,
            "width": RATES,
        },
    ),
    "ModelSpec.build": Good(empirical.ModelSpec(**SPEC).build, {"seed": 0}, {"seed": SEEDS}),
    "capture": Good(
        entered,
        {"context": empirical.capture, "model": MODEL, "readers": {"0": len}},
        {"model": (None,), "readers": (None, 3, {"0": 3}), "readers as submodule": ({"9": len},)},
    ),
    "edit": Good(
        entered,
        {"context": empirical.edit, "model": MODEL, "editors": {"0": torch.relu}},
        {"model": (None,), "editors": (None, 3, {"0": 3}), "editors as submodule": ({"9": len},)},
    ),
    "register_criterion": Good(
        empirical.register_criterion,
        {"name": "own", "axis": "weights", "source": "this test"},
        {
            "name": (None, 3, "", "l2"),
            "axis": ("locl", None),
            "source": ("",),
            "across": ("men", None),
            "stochastic": TRUTHS,
        },
    ),
    "train": Good(
        empirical.train,
        {"model": MODEL, "image_set": SET, "recipe": empirical.Recipe(epochs=1, batch_size=40)},
        {
            "model": (None, "resnet18"),
            "image_set": (None, LOADER),
            "recipe": (None, 3),
            "seed": SEEDS,
            "steps": ([-1], [9], [1.5], ["text"], 3, "0"),
            "folder": (3,),
            "spec": ("small_convnet",),
            "device": ("gpu",),
            "on_checkpoint": (3,),
            "on_progress": ("text",),
            "adapt": (3,),
        },
    ),
}  # fmt: skip


test_the_good_call_works, test_a_bad_call_is_refused = checks_of(TABLE)
