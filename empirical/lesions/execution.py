"""Run every lesion on the same images, each against the dense network.

The naive way, one whole forward pass for each lesion, is the definition; `lesion_graph` computes
the same logits from what a lesion changes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from empirical.data.images import check_memory
from empirical.devices import full_precision
from empirical.lesions.interventions import Job, apply
from empirical.lesions.scores import Loss, cross_entropy, damage, image_scores
from empirical.lesions.table import DAMAGES
from empirical.reading.batches import Batch, batches, length
from empirical.reading.hooks import edit, edit_inputs, evaluating
from empirical.reading.outputs import checked_logits, checked_outputs

DENSE = ("loss", "accuracy", "margin")
"""What is kept of the intact network's scores."""

Progress = Callable[[int, int], object]
"""Called with (forward passes asked for so far, their number or 0 where it is not known)."""


@dataclass(frozen=True)
class Lesioned:
    """Logits of M pairs of a lesion and an image; a pair that no one yields is as in the dense net.

    Parameters
    ----------
    lesion, image : int64 (M,): index into the job's lesions, and into the batch
    logits : (M, K)
    """

    lesion: Tensor
    image: Tensor
    logits: Tensor


Runner = Callable[[Tensor, Job], Iterator[Lesioned]]
"""(images, job) -> the logits of its lesions on these images."""

Change = Callable[[Tensor], Tensor]
"""Values at a point -> the same with one lesion in them."""


def one_by_one(forward: Callable[[Tensor, Job, Change], Tensor]) -> Runner:
    """Return the runner that makes one forward pass for each lesion.

    `forward` returns the logits on images, with a change of the values at the job's point.
    """

    def run(images: Tensor, job: Job) -> Iterator[Lesioned]:
        everyone = torch.arange(len(images), device=images.device)
        for index in range(len(job.channels)):
            logits = forward(images, job, partial(apply, job, index=index))
            yield Lesioned(torch.full_like(everyone, index), everyone, logits)

    return run


def naive_runner(model: nn.Module) -> Runner:
    """Return the runner that makes one forward pass of the model for each lesion."""

    def forward(images: Tensor, job: Job, change: Change) -> Tensor:
        place = edit_inputs if job.point == "input" else edit
        with place(model, {edited_module(job): change}):
            logits: Tensor = model(images)
        return logits

    return one_by_one(forward)


def edited_module(job: Job) -> str:
    """Return the name of the module whose output the job's point is, or precedes, or whose input.

    Layers of heads are named by their attention, and read by its projection.
    """
    if job.point == "input":
        return job.reader
    before_norm = job.point == "pre_norm" or job.layer.norm is None
    return job.layer.name if before_norm else str(job.layer.norm)


@dataclass(frozen=True)
class Outcome:
    """Damages (R, N) of the lesions of all jobs in order, and the dense network's scores (N,).

    `digests` are those of the N images.
    """

    damage: dict[str, NDArray[np.float32]]
    dense: dict[str, NDArray[np.float64]]
    digests: frozenset[bytes]


def execute(
    model: nn.Module,
    loader: Iterable[object],
    jobs: Sequence[Job],
    runners: Sequence[Runner],
    *,
    loss: Loss,
    images_at_once: int | None = None,
    calibration_images: frozenset[bytes] | None = None,
    progress: Progress | None = None,
) -> Outcome:
    """Run `jobs[i]` with `runners[i]`, all jobs on each batch in turn, so that one pass suffices.

    Raises
    ------
    ValueError
        Images shared with calibration; a network that is not deterministic, or not finite; labels
        beyond the network's outputs.
    MemoryError
        After the first batch, where the damages of all images would not fit.
    """
    known = calibration_images or frozenset()
    blocks: list[NDArray[np.float32]] = []
    dense_blocks: list[dict[str, NDArray[np.float64]]] = []
    seen: set[bytes] = set()
    device = next(model.parameters()).device
    rows, n_batches = sum(len(job.channels) for job in jobs), length(loader) or 0
    done, foreseen = 0, False
    source = batches(loader, device, classes=loss is cross_entropy)
    with evaluating(model), full_precision():
        for number, batch in enumerate(_parts(source, images_at_once)):
            images, labels = batch
            if batch.number and not foreseen:
                foreseen = True
                _foresee(rows, n_batches * batch.first)
            digests = batch.digests()
            if not known.isdisjoint(digests):
                _refuse_shared(known, batch, source)
            seen.update(digests)
            dense = _dense_scores(model, batch, loss, number)
            dense_blocks.append({name: dense[name].cpu().numpy() for name in DENSE})
            parts = []
            for job, run in zip(jobs, runners, strict=True):
                parts.append(_job_damage(run, job, images, labels, dense, loss))
                done += len(job.channels)
                if progress is not None:
                    progress(done, n_batches * rows)
            blocks.append(np.concatenate(parts, axis=1))
    return Outcome(
        dict(zip(DAMAGES, np.concatenate(blocks, axis=2), strict=True)),
        {name: np.concatenate([block[name] for block in dense_blocks]) for name in dense_blocks[0]},
        frozenset(seen),
    )


def _foresee(rows: int, images: int) -> None:
    """Refuse more damages than memory holds; they are kept image by image, twice at the end."""
    check_memory(
        2 * len(DAMAGES) * rows * images * np.dtype(np.float32).itemsize,
        f"the damages of {rows} lesions on some {images} images",
        "Lesion fewer layers at a time, or give each process a share of the images (`twoaxis "
        "lesion --shard`, merge_lesions).",
    )


def _parts(source: Iterable[Batch], most: int | None) -> Iterator[Batch]:
    """Split batches evenly into parts of at most `most` images."""
    for batch in source:
        n = len(batch.images)
        size = n if most is None else -(-n // -(-n // most))
        for start in range(0, n, size):
            yield batch.part(slice(start, start + size))


def _job_damage(
    run: Runner, job: Job, images: Tensor, labels: Tensor, dense: dict[str, Tensor], loss: Loss
) -> NDArray[np.float32]:
    """`DAMAGES` (4, L, N) of one job on one batch."""
    shape = (len(DAMAGES), len(job.channels), len(images))
    result = images.new_zeros(shape, dtype=torch.float32)
    classes = not bool(dense["accuracy"].isnan().any())
    if not classes:
        result[1:] = torch.nan
    for part in run(images, job):
        if not bool(torch.isfinite(part.logits).all()):
            bad = (
                (~torch.isfinite(part.logits)).reshape(len(part.logits), -1).any(1).nonzero()[0, 0]
            )
            members = job.channels[int(part.lesion[bad])].tolist()
            raise ValueError(
                f"model must stay finite under lesions; kind {job.kind!r} of channels {members} of "
                f"layer {job.layer.name!r} gives NaN or infinite logits. Run it in float32."
            )
        control = {name: values[part.image] for name, values in dense.items()}
        scores = image_scores(part.logits, labels[part.image], loss, classes=classes)
        found = damage(control, scores)
        for name, values in zip(DAMAGES, result, strict=True):
            values[part.lesion, part.image] = found[name].float()
    return np.asarray(result.cpu())


def _dense_scores(model: nn.Module, batch: Batch, loss: Loss, number: int) -> dict[str, Tensor]:
    images, largest = batch.images, batch.largest_label
    returned = model(images)
    if loss is cross_entropy:
        logits = checked_logits(returned, len(images), largest)
    else:
        logits = checked_outputs(returned, len(images))
    if not bool(torch.isfinite(logits).all()):
        raise ValueError(
            f"model must give finite logits; on batch {number} some are NaN or infinite. "
            "Check its weights."
        )
    if number == 0:
        _refuse_random(model, images, logits)
    classes = largest is not None and logits.ndim == 2 and largest < logits.shape[1]
    return image_scores(logits, batch.labels, loss, classes=classes)


def _refuse_random(model: nn.Module, images: Tensor, logits: Tensor) -> None:
    """A paired comparison needs the same network twice, up to the rounding of a parallel sum."""
    again = model(images)
    largest = float((again - logits).abs().max())
    scale = float(logits.abs().max())
    if largest > 1e-4 * max(scale, 1e-30):
        raise ValueError(
            "model must be deterministic in evaluation mode; two passes over the same images "
            f"differ by up to {largest:.3g} in logits of up to {scale:.3g}. Switch off what is "
            "random in its forward (dropout by F.dropout without training=self.training, noise)."
        )


def _refuse_shared(known: frozenset[bytes], batch: Batch, rest: Iterable[Batch]) -> None:
    """Count what the remaining batches share too, and raise."""
    digests = batch.digests()
    for other in rest:
        digests += other.digests()
    shared = sum(digest in known for digest in digests)
    raise ValueError(
        f"loader must hold images that calibration has not seen; {shared} of its images are among "
        f"the {len(known)} calibration images. Evaluate on held-out images."
    )
