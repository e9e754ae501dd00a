"""Exact damages of few images made precise by the law on many: the law as a control variate.

Image by image the law follows what a lesion does (the linearized form most closely), and its mean
over many images is cheap. With d the exact damage and q the foretold one,

    D = mean(d) - w (mean(q) - Q),

the means over the few images that were lesioned, Q over many others. The weight w of each fold of
images is the regression of d on q over the other folds, so that D is unbiased whatever the law is
worth; its error is that of d - w q, and that of Q (Cochran 1977, sections 7.3 and 12.6).
"""

from __future__ import annotations

import numpy as np
import pandas as pd

from empirical.lesions.foretold import QUANTITY
from empirical.lesions.table import DAMAGES, LesionTable
from empirical.measuring.damage_table import DamageTable
from theory.shared.validation import Float, count, one_of

FOLDS = 5

SAME_SETTINGS = ("point", "loss", "form", "ridge")
"""What both laws must have been foretold with alike, so that they have one mean."""


def controlled(
    measured: LesionTable,
    same: DamageTable,
    many: DamageTable,
    *,
    name: str = "divergence",
    folds: int = FOLDS,
) -> pd.DataFrame:
    """Estimate the damage of each channel on many images from exact damages on few and the law.

    Parameters
    ----------
    measured : from `lesion` or `replace`, kinds "mean" and "all", on n images
    same : foretold on the same images in the same order, each a group of its own:
        `damage(..., calibration=C, groups=n)`
    many : foretold on many other images, with the same calibration C
    name : of the measured damage. With a loss of your own in `damage`, "loss_increase"
    folds : of the n images, image i in fold i modulo their number

    Returns
    -------
    One row per layer, channel and kind: `measured` over the n images with `measured_se`;
    `controlled`, the estimate, with `controlled_se`; `correlation` of exact and foretold damage
    over the n images.

    Raises
    ------
    ValueError
        tables of other images, point or form; fewer than 2 images a fold; no row that the law
        foretells

    Examples
    --------
    >>> import torch
    >>> from empirical import damage, lesion, measure
    >>> model = torch.nn.Sequential(
    ...     torch.nn.Conv2d(1, 3, 2), torch.nn.Tanh(), torch.nn.Flatten(), torch.nn.Linear(12, 3))
    >>> generator = torch.Generator().manual_seed(0)
    >>> def images(n):
    ...     return [(torch.randn(n, 1, 3, 3, generator=generator), torch.arange(n) % 3)]
    >>> few, table = images(20), measure(model, images(100))
    >>> exact = lesion(model, few, layers=["0"], kinds=["mean"], calibration=table)
    >>> law = {"calibration": table, "layers": ["0"], "form": "linearized"}
    >>> same, many = damage(model, few, groups=20, **law), damage(model, images(500), **law)
    >>> found = controlled(exact, same, many)
    >>> bool((found.controlled_se < found.measured_se).all())
    True
    """
    one_of("name", name, DAMAGES)
    _check(measured, same, many, count("folds", folds, least=2))
    fold = np.arange(measured.n_images) % folds
    frames = []
    for layer in [layer for layer in same.layers if layer in many.layers]:
        place = [
            {members: row for row, members in enumerate(table.channels[layer])}
            for table in (same, many)
        ]
        for kind, quantity in QUANTITY.items():
            at = (measured.layer == layer) & (measured.kind == kind)
            rows = [
                row
                for row in np.flatnonzero(at & (measured.point == same.settings["point"]))
                if all(measured.channels[row] in known for known in place)
            ]
            if not rows:
                continue
            own, other = ([known[measured.channels[row]] for row in rows] for known in place)
            per_image = {
                "damage_alone": same[layer].alone,
                "damage_with_peers": same[layer].with_peers,
            }
            found = _estimate(
                measured.per_image(name)[rows].astype(np.float64).T,
                per_image[quantity][:, own],
                many[layer].values()[quantity][other],
                many[layer].standard_errors()[quantity][other],
                fold,
            )
            channels = ["+".join(map(str, measured.channels[row])) for row in rows]
            head = {"layer": layer, "channel": channels, "kind": kind}
            frames.append(pd.DataFrame({**head, **found}))
    if not frames:
        raise ValueError(
            f"measured must hold lesions of kind {' or '.join(map(repr, QUANTITY))} at point "
            f"{same.settings['point']!r}, of channels that both laws foretold."
        )
    return pd.concat(frames, ignore_index=True)


def _check(measured: LesionTable, same: DamageTable, many: DamageTable, folds: int) -> None:
    n = measured.n_images
    sizes = {len(found.images) for found in same.layers.values()}
    if same.settings["n_images"] != n or sizes != {n}:
        raise ValueError(
            f"same must be foretold on the {n} images of measured, each a group of its own; got "
            f"{same.settings['n_images']} images in {sorted(sizes)} groups. Call damage(model, "
            f"loader, groups={n}, calibration=...) with the loader that was lesioned."
        )
    for setting in SAME_SETTINGS:
        if same.settings[setting] != many.settings[setting]:
            raise ValueError(
                f"same and many must be foretold alike; their {setting} is "
                f"{same.settings[setting]!r} and {many.settings[setting]!r}."
            )
    if n < 2 * folds:
        raise ValueError(f"folds must be at most {n // 2} for {n} images; got {folds}.")


def _estimate(d: Float, q: Float, mean: Float, error: Float, fold: np.ndarray) -> dict[str, Float]:
    """Exact and foretold damages (n, L), and the mean (L,) of the law with its standard error."""
    n = len(d)
    weight = np.stack([_slope(d[fold != k], q[fold != k]) for k in range(int(fold.max()) + 1)])
    left = d - weight[fold] * (q - mean)
    average = weight[fold].mean(axis=0)
    with np.errstate(invalid="ignore", divide="ignore"):
        spread = d.std(axis=0) * q.std(axis=0)
        together = ((d - d.mean(0)) * (q - q.mean(0))).mean(0) / spread
    return {
        "measured": d.mean(axis=0),
        "measured_se": d.std(axis=0, ddof=1) / np.sqrt(n),
        "controlled": left.mean(axis=0),
        "controlled_se": np.hypot(left.std(axis=0, ddof=1) / np.sqrt(n), average * error),
        "correlation": together,
    }


def _slope(d: Float, q: Float) -> Float:
    """Regression of each column of d on that of q; 0 where q does not vary."""
    centred = q - q.mean(axis=0)
    power = (centred**2).sum(axis=0)
    shared = (centred * (d - d.mean(axis=0))).sum(axis=0)
    return np.asarray(np.divide(shared, power, out=np.zeros_like(power), where=power > 0))
