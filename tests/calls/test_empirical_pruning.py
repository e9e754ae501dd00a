"""Bad calls of what prunes in `empirical`."""

import empirical
from tests.calls.refusals import COUNTS, INF, NAN, SEEDS, SHARES, Good, checks_of
from tests.calls.test_empirical import LOADER, LOADERS, MODEL, TRUTHS

PRUNING = {
    "prune": Good(
        empirical.prune,
        {"model": MODEL, "loader": LOADER, "criterion": "l2", "recovery": "none"},
        {
            "loader": LOADERS,
            "macs": ("text", NAN, INF, -1, 0, 1.5),
            "parameters": ("text", NAN, INF, -1, 0, 1.5),
            "latency": ("text", NAN, INF, -1, 0, 1.5),
            "accuracy_drop": ("text", NAN, INF, -1),
            "criterion": ("l22", None, 3),
            "allocation": ("unifrom", None),
            "recovery": ("compensat", None),
            "path": ("mask", None),
            "floor": SHARES,
            "counts": ({"9": 1}, {"0": 0}, {"0": 9}, {"0": 1.5}, {"0": None}),
            "seed": SEEDS,
            "skip": (["9"],),
        },
    ),
    "forecast": Good(
        empirical.forecast,
        {"model": MODEL, "loader": LOADER, "measured": (), "shares": (0.5,)},
        {
            "loader": LOADERS,
            "criterion": ("l22", None, 3),
            "allocation": ("unifrom", None),
            "recovery": ("compensat", None),
            "resource": ("maccs", None),
            "shares": (["text"], [NAN], [0], [1.5], None),
            "measured": (["text"], [NAN], [0], [1.5], None),
            "floor": SHARES,
            "seed": SEEDS,
            "skip": (["9"],),
        },
    ),
    "Importance": Good(
        empirical.Importance,
        {"model": MODEL, "loader": LOADER, "criterion": "l2"},
        {
            "model": (None, 3),
            "loader": LOADERS,
            "criterion": ("l22", None, 3),
            "seed": SEEDS,
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
            "model": (None, "resnet18"),
            "loader": (None, 3),
            "target": ("logit_margn", 3),
            "coupled": TRUTHS,
            "seed": SEEDS,
            "skip": ("0", 3),
            "recipe": (None, 3),
            "training": (3, LOADER),
            "device": ("gpu",),
            "adapt": (3,),
        },
    ),
}  # fmt: skip


test_the_good_call_works, test_a_bad_call_is_refused = checks_of(PRUNING)
