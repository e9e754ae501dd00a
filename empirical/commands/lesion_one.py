"""`twoaxis lesion`: one network, lesioned and replaced channel by channel, with its report."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from empirical.analysis.lesions import analyze_lesions
from empirical.analysis.pairs import PairAnalysis, analyze_pairs
from empirical.commands.measure_one import load_network, normalized_as
from empirical.data.folders import DEFAULT_CACHE
from empirical.data.images import ImageLoader, ImageSet, image_loader
from empirical.data.loading import load_data
from empirical.data.splits import stratified_draw
from empirical.devices import chosen_device
from empirical.lesions.lesioning import MEMORY, lesion
from empirical.lesions.pairs import lesion_pairs
from empirical.lesions.replacement import replace
from empirical.measuring.measurement import measure
from empirical.models.probe import check_logits
from empirical.report.lesion_analysis import lesion_analysis_section
from empirical.report.page import Section, write_report, write_table
from empirical.report.replacement import replacement_section

Progress = Callable[[str, float], object]
"""Called with what is being done, and the share of it that is done."""


def lesion_one(
    data: str | os.PathLike[str] | None,
    *,
    model: str | None = None,
    checkpoint: str | os.PathLike[str] | None = None,
    out: str | os.PathLike[str],
    images: int = 1000,
    calibration_images: int = 5000,
    kinds: Sequence[str] = ("mean", "zero"),
    peers: Sequence[str] = ("all", "hull", "random"),
    draws: int = 3,
    pairs: int = 12,
    layers: Sequence[str] | None = None,
    permutations: int = 2000,
    memory: int = MEMORY,
    image_size: int | None = None,
    width: float = 1.0,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
    seed: int = 0,
    device: str = "auto",
    root: str | os.PathLike[str] = "data",
    download: bool = False,
    cache: str | os.PathLike[str] | None = DEFAULT_CACHE,
    batch_size: int = 250,
    progress: Progress | None = None,
) -> list[Section]:
    """Measure on training images; lesion and replace on test images; write tables and a report.

    Parameters
    ----------
    images, calibration_images
        Numbers of test images and of training images, drawn by class with `seed`.
    kinds
        Of lesions; "mean" is always among them.
    peers, draws
        As for `replace`; no peers, no replacement.
    pairs
        High pairs in a layer, and as many controls; 0 for none.
    data, model, checkpoint, image_size, width, mean, std, root, download, cache
        As for `measure_one`.

    Returns
    -------
    The chapters of the report that lies in `out`.
    """
    where = chosen_device(device)
    train, test = load_data(
        data or "digits", root=root, image_size=image_size, download=download, cache=cache
    )
    network, info = load_network(model, checkpoint, train, width, seed)
    train, test = (normalized_as(part, info, mean, std) for part in (train, test))
    check_logits(network, train)
    network.to(where)
    calibration = _drawn(train, calibration_images, seed, batch_size)
    held_out = _drawn(test, images, seed, batch_size)
    table = measure(network, calibration, layers=layers, seed=seed)
    folder = Path(out)
    write_table(folder / "axes.csv", table.to_frame())
    names = table.layers
    common: dict[str, Any] = {"layers": names, "memory": memory, "seed": seed}
    wanted = list(dict.fromkeys(["mean", *kinds]))
    damages = lesion(
        network,
        held_out,
        calibration=table,
        kinds=wanted,
        progress=_share(progress, "lesions"),
        **common,
    )
    scores = table.to_frame().drop(columns=[c for c in table.to_frame() if c.endswith("_se")])
    frame = damages.to_frame().merge(scores, on=["layer", "channel"])
    write_table(folder / "lesions.csv", frame)
    sections = []
    if peers:
        replaced = replace(
            network,
            held_out,
            table,
            peers=peers,
            draws=draws,
            progress=_share(progress, "replacements"),
            **common,
        )
        write_table(folder / "replacements.csv", replaced.to_frame())
        sections.append(replacement_section(replaced))
    found: PairAnalysis | None = None
    wide = [name for name in names if len(table[name].signal_power) >= 8]
    if pairs and wide:
        lesioned = lesion_pairs(
            network,
            held_out,
            table,
            layers=wide,
            pairs=pairs,
            memory=memory,
            seed=seed,
            progress=_share(progress, "pairs"),
        )
        found = analyze_pairs(lesioned, permutations=permutations, seed=seed)
    analysis = analyze_lesions(frame, permutations=permutations, seed=seed)
    control = damages.shuffled(np.random.default_rng(seed)).to_frame()
    shuffled = analyze_lesions(
        control.merge(scores, on=["layer", "channel"]), permutations=permutations, seed=seed
    )
    sections.insert(0, lesion_analysis_section(analysis, found, shuffled))
    write_report(
        folder,
        "Lesions and peer replacement",
        f"{model or checkpoint} on {test.name}: every channel of {len(names)} layers, one at a "
        f"time, on {held_out.n_images} test images; scores from {calibration.n_images} training "
        f"images. Accuracy of the intact network on these test images: "
        f"{damages.dense['accuracy'].mean():.1%}.",
        sections,
    )
    return sections


def _drawn(images: ImageSet, size: int, seed: int, batch_size: int) -> ImageLoader:
    rng = np.random.default_rng(seed)
    chosen = stratified_draw(images.labels.numpy(), min(size, len(images)), rng)
    return image_loader(images, torch.from_numpy(chosen), batch_size=batch_size)


def _share(progress: Progress | None, what: str) -> Callable[[int, int], object] | None:
    if progress is None:
        return None
    return lambda done, total: progress(what, done / max(total, 1))
