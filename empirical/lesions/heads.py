"""Lesions of whole attention heads, and their replacement by what the other heads say of them.

T5 for a block S: at a least-squares readout W the loss of a replacement is
tr(W K_{S|O} Wᵀ) / tr(W K_SS Wᵀ) of the loss of the head's mean lesion. The output projection adds
to the residual stream, so that W is its weights; what follows is neither linear nor at its optimum,
and the table holds both sides.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
from torch import nn

from empirical.lesions.execution import Progress
from empirical.lesions.interventions import FromPeers, Intervention, Job, ToConstant
from empirical.lesions.lesioning import adapted, example_images, run_jobs
from empirical.lesions.plan import METHODS, plan_runs
from empirical.lesions.replacement_table import ReplacementTable
from empirical.lesions.scores import Loss, cross_entropy
from empirical.measuring.calibration import is_loader
from empirical.measuring.heads import HeadTable, measure_heads
from empirical.reading.attention import with_readable_heads
from empirical.reading.networks import Adapter
from theory import blocks_recovered_outside, regress_on_other_blocks
from theory.shared.validation import one_of, positive

HEADS = "heads"
"""Kind of a replacement by all other heads of the attention."""


@dataclass(frozen=True, eq=False)
class HeadDamage(ReplacementTable):
    """What `lesion_heads` measured: rows of kind "mean" and of kind "heads", a pair for each head.

    `predicted` is the share of the head's damage that T5 foretells its regression to recover, on
    groups of calibration images that it was not fitted on; `channels` are those of the head.
    """

    def to_frame(self) -> pd.DataFrame:
        """One row per attention, head and kind, as `ReplacementTable.to_frame`."""
        frame = super().to_frame().rename(columns={"channel": "head"})
        frame["head"] = [members[0] // len(members) for members in self.channels]
        return frame


def lesion_heads(
    model: nn.Module,
    loader: Iterable[object],
    calibration: HeadTable | Iterable[object],
    *,
    layers: Sequence[str] | None = None,
    ridge: float = 1e-4,
    loss: Loss = cross_entropy,
    method: str = "fast",
    memory: int | None = None,
    progress: Progress | None = None,
    adapt: Adapter | None = None,
) -> HeadDamage:
    """Hold every head at its mean, and replace it by its regression on the attention's other heads.

    Parameters
    ----------
    model, loader, loss, method, memory, progress, adapt : as for `lesion`
    calibration : what `measure_heads` returned for this model, or a loader of calibration images,
        none of which may be among the evaluation images
    layers : attentions, by dotted name; None means all whose heads can be read
    ridge : on the diagonal of the correlation

    Raises
    ------
    ValueError
        an attention that calibration does not hold, or holds with other heads; and as `lesion`

    Examples
    --------
    >>> layer = nn.TransformerEncoderLayer(12, 3, 24, batch_first=True)
    >>> model = nn.Sequential(nn.Linear(6, 12), layer, nn.Flatten(), nn.Linear(60, 4)).eval()
    >>> generator = torch.Generator().manual_seed(0)
    >>> def images(n):
    ...     return [(torch.randn(n, 5, 6, generator=generator), torch.arange(n) % 4)]
    >>> damage = lesion_heads(model, images(8), images(80), method="naive")
    >>> damage.to_frame()[["head", "kind"]].values.tolist()[2:4]
    [[2, 'mean'], [0, 'heads']]
    """
    one_of("method", method, METHODS)
    if memory is not None:
        positive("memory", memory)
    positive("ridge", ridge, zero=True)
    model, loader, calibration = adapted(model, loader, calibration, adapt)
    example = example_images(model, loader)
    if not isinstance(calibration, HeadTable):
        if not is_loader(calibration):
            raise TypeError(
                "calibration must be what measure_heads returned, or a loader of calibration "
                f"images; got {type(calibration).__name__}."
            )
        calibration = measure_heads(model, calibration, layers=layers)
    twin, found, _ = with_readable_heads(model, example[:2], layers)
    jobs: list[Job] = []
    predictions: list[np.ndarray] = []
    for heads in found:
        name, blocks = heads.name, list(heads.blocks)
        moments, readout = calibration.of(heads), heads.readout(twin)
        fit = regress_on_other_blocks(moments, blocks, ridge=ridge)
        changes: dict[str, Intervention] = {
            "mean": ToConstant(torch.from_numpy(moments.mean[: heads.blocks.size].copy())),
            HEADS: FromPeers(torch.from_numpy(fit.coefficients), torch.from_numpy(fit.intercepts)),
        }
        channels = torch.from_numpy(heads.blocks.astype(np.int64))
        layer = heads.layer(twin)
        jobs += [
            Job(layer, kind, "input", change, channels, heads.projection)
            for kind, change in changes.items()
        ]
        foretold = blocks_recovered_outside(
            calibration.groups[name], blocks, readout=readout, ridge=ridge
        )
        predictions += [np.zeros(heads.n_heads), foretold]
    plan = plan_runs(twin, example, jobs, method, memory)
    table = run_jobs(twin, loader, jobs, plan, loss, calibration.image_digests, progress)
    others = [
        0 if job.kind == "mean" else job.layer.n_channels - job.channels.shape[1] for job in jobs
    ]
    sizes = [len(job.channels) for job in jobs]
    return HeadDamage(
        **vars(table),
        predicted=np.concatenate(predictions),
        n_peers=np.repeat(np.array(others, dtype=np.intp), sizes),
        draw=np.zeros(sum(sizes), dtype=np.intp),
    )
