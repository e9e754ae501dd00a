"""Which images train, which are measured, which choose, and which report.

    training folder ──┬── fit ──── gradient steps
                      │     └───── calibration: a fixed subset on which scores are computed
                      └── selection: settings are chosen on these, and never fitted
    test folder ───────── report: the only images on which an accuracy is reported

No score, no choice and no gradient sees an image of `report`.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from empirical.data.images import ImageSet
from empirical.seeding import checked_seed
from theory.shared.validation import count, instance, within


@dataclass(frozen=True)
class DataSplit:
    """Four image sets; `fit`, `selection` and `report` share no image.

    `calibration` is a subset of `fit`: quantities describe what the network does on images that
    it was trained on, as in the paper, and no held-out image is spent on them.
    """

    fit: ImageSet
    calibration: ImageSet
    selection: ImageSet
    report: ImageSet


def split_data(
    train: ImageSet,
    test: ImageSet,
    *,
    calibration: int = 5000,
    selection: float = 0.1,
    seed: int = 0,
) -> DataSplit:
    """Split `train` by class into fit (with calibration inside it) and selection; report is `test`.

    Parameters
    ----------
    calibration
        Number of images on which quantities are measured; all of `fit` where that has fewer.
    selection
        Share of `train` held out from the gradient, in [0, 1). At 0 the set is empty.
    seed
        Of the draw. The same seed always gives the same images.

    Examples
    --------
    >>> from empirical.data.loading import load_data
    >>> parts = split_data(*load_data("digits"), calibration=200)
    >>> [len(part) for part in (parts.fit, parts.calibration, parts.selection, parts.report)]
    [1078, 200, 120, 599]
    """
    for name, given in (("train", train), ("test", test)):
        instance(name, given, ImageSet, "Pass what load_data returns.")
    wanted = count("calibration", calibration)
    within("selection", selection, "[0, 1)")
    checked_seed("seed", seed)
    if train.class_names != test.class_names:
        raise ValueError(
            f"train and test must have the same classes; got {train.classes} and {test.classes} "
            "class names that differ. Load both from one source."
        )
    rng = np.random.default_rng(seed)
    labels = train.labels.numpy()
    held_out = stratified_draw(labels, round(selection * len(labels)), rng)
    fit = np.setdiff1d(np.arange(len(labels)), held_out)
    measured = fit[stratified_draw(labels[fit], min(wanted, len(fit)), rng)]
    prefix = train.name.removesuffix("/train")
    return DataSplit(
        fit=train.subset(torch.from_numpy(fit), name=f"{prefix}/fit"),
        calibration=train.subset(torch.from_numpy(measured), name=f"{prefix}/calibration"),
        selection=train.subset(torch.from_numpy(held_out), name=f"{prefix}/selection"),
        report=test,
    )


def stratified_draw(
    labels: NDArray[np.int64], size: int, rng: np.random.Generator
) -> NDArray[np.int64]:
    """Return `size` indices in which every class has its share, to within one image.

    Images are shuffled within their class and then taken in the order of their relative rank, so
    that any size, also one below the number of classes, gives as even a draw as can be. They stay
    in that order: the first images, and every batch, are as even a draw as the whole.
    """
    order = rng.permutation(len(labels))
    ranks = np.empty(len(labels))
    for label in np.unique(labels):
        members = order[labels[order] == label]
        ranks[members] = (np.arange(len(members)) + rng.random()) / len(members)
    return np.argsort(ranks, kind="stable")[:size]


def stratified_subset(images: ImageSet, size: int, seed: int) -> ImageSet:
    """Return `size` of `images`, or all where there are fewer, as `stratified_draw` draws them."""
    drawn = stratified_draw(images.labels.numpy(), size, np.random.default_rng(seed))
    return images.subset(torch.from_numpy(drawn))
