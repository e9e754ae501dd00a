"""Run every lesion on the same images, each against the dense network.

The naive way, one whole forward pass for each lesion, is the definition; `lesion_graph` computes
the same logits from what a lesion changes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import chain

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from empirical.devices import full_precision
from empirical.lesions.interventions import Job, apply
from empirical.lesions.scores import Loss, cross_entropy, damage, image_scores
from empirical.lesions.table import DAMAGES
from empirical.reading.ahead import hashed
from empirical.reading.batches import Batch, batches, length
from empirical.reading.hooks import edit, edit_inputs, evaluating
from empirical.reading.outputs import (
    answered,
    apart,
    checked_logits,
    checked_outputs,
    moved_by_images,
)

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
    unchanged : (M,) pairs whose logits are the dense net's up to rounding, and count as the same
    """

    lesion: Tensor
    image: Tensor
    logits: Tensor
    unchanged: Tensor | None = None


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
class Block:
    """All jobs on one batch: damages (4, R, n), and the dense network's scores (3, n).

    `digests` are those of the n images; `foreseen` is how many images there will be, 0 where that
    is not known.
    """

    damage: NDArray[np.float32]
    dense: NDArray[np.float64]
    digests: list[bytes]
    foreseen: int


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
) -> Iterator[Block]:
    """Run `jobs[i]` with `runners[i]`, all jobs on each batch in turn, so that one pass suffices.

    Raises
    ------
    ValueError
        Images shared with calibration; a network that is not deterministic, or not finite; labels
        beyond the network's outputs.
    """
    known = calibration_images or frozenset()
    device = next(model.parameters()).device
    rows, n_batches, done = sum(len(job.channels) for job in jobs), length(loader) or 0, 0
    source = batches(loader, device, classes=loss is cross_entropy)
    stream = hashed(_parts(source, images_at_once), device)
    with evaluating(model), full_precision():
        for number, (batch, digests) in enumerate(stream):
            if not known.isdisjoint(digests):
                _refuse_shared(known, digests, stream)
            dense = _dense_scores(model, batch, loss, number)
            found = _Damages(jobs, batch, dense, loss)
            for job, run in zip(jobs, runners, strict=True):
                found.add(job, run)
                done += len(job.channels)
                if progress is not None:
                    progress(done, n_batches * rows)
            scores = torch.stack([dense[name] for name in DENSE]).cpu().numpy()
            if not np.isfinite(scores[0]).all():
                raise ValueError(
                    f"loss must be finite on the intact network; on batch {number} it is not. "
                    "Check it for logarithms of zero and divisions by it."
                )
            # batches are alike: those before this one say how large they are
            size = batch.first // batch.number if batch.number else 0
            yield Block(found.on_host(), scores, digests, n_batches * size)


def _parts(source: Iterable[Batch], most: int | None) -> Iterator[Batch]:
    """Split batches evenly into parts of at most `most` images."""
    for batch in source:
        n = len(batch.images)
        size = n if most is None else -(-n // -(-n // most))
        for start in range(0, n, size):
            yield batch.part(slice(start, start + size))


class _Damages:
    """`DAMAGES` (4, R, N) of all jobs on one batch, looked at when the last is in the queue.

    Pairs that no runner yields stay at 0. Beside them, (R, N), each pair's largest logit, which
    says whether all are numbers.
    """

    def __init__(
        self, jobs: Sequence[Job], batch: Batch, dense: dict[str, Tensor], loss: Loss
    ) -> None:
        self.jobs, self.batch, self.loss = jobs, batch, loss
        self.classes = "log_chances" in dense
        self.chances = dense.get("log_chances")
        self.scores = torch.stack([dense[name] for name in DENSE])
        shape = (sum(len(job.channels) for job in jobs), len(batch.images))
        self.values = batch.images.new_zeros((len(DAMAGES) + 1, *shape), dtype=torch.float32)
        if not self.classes:
            self.values[1:-1] = torch.nan
        self.rows = 0

    def add(self, job: Job, run: Runner) -> None:
        """Run a job."""
        for part in run(self.batch.images, job):
            row, image = part.lesion + self.rows, part.image
            intact = dict(zip(DENSE, self.scores[:, image], strict=True))
            if self.chances is not None:
                intact["log_chances"] = self.chances[image]
            labels = self.batch.labels[image]
            scores = image_scores(part.logits, labels, self.loss, classes=self.classes)
            found = damage(intact, scores)
            if part.unchanged is not None:
                known = found if self.classes else found[:1]
                known.masked_fill_(part.unchanged, 0)
            largest = part.logits.flatten(1).abs().amax(1)
            self.values[:, row, image] = torch.cat([found, largest[None]]).float()
        self.rows += len(job.channels)

    def on_host(self) -> NDArray[np.float32]:
        """Return the damages, or say which lesion gave no numbers."""
        finite = self.values[-1].isfinite().all(1)
        if not bool(finite.all()):
            row = int((~finite).nonzero()[0, 0])
            ends = np.cumsum([len(job.channels) for job in self.jobs])
            number = int(np.searchsorted(ends, row, side="right"))
            job = self.jobs[number]
            members = job.channels[row - int(ends[number])].tolist()
            raise ValueError(
                f"model must stay finite under lesions; kind {job.kind!r} of channels {members} of "
                f"layer {job.layer.name!r} gives NaN or infinite logits. Run it in float32."
            )
        return np.asarray(self.values[:-1].cpu())


def _dense_scores(model: nn.Module, batch: Batch, loss: Loss, number: int) -> dict[str, Tensor]:
    images, largest = batch.images, batch.largest_label
    returned = answered(model, images)
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


EXAMPLE = 4
"""Images that tell how far logits are moved by what is in them."""


def _refuse_random(model: nn.Module, images: Tensor, logits: Tensor) -> None:
    """A paired comparison needs the same network twice, up to the rounding of a parallel sum."""
    moved = moved_by_images(model, images[:EXAMPLE], logits[:EXAMPLE])
    if difference := apart(model(images), logits, moved):
        raise ValueError(
            "model must be deterministic in evaluation mode; two passes over the same images "
            f"differ by up to {difference:.3g}, where images move logits by {moved:.3g}. Switch "
            "off what is random in its forward (dropout by F.dropout without "
            "training=self.training, noise)."
        )


def _refuse_shared(
    known: frozenset[bytes], first: list[bytes], rest: Iterable[tuple[Batch, list[bytes]]]
) -> None:
    """Count what the remaining batches share too, and raise."""
    digests = chain(first, *(found for _, found in rest))
    shared = sum(digest in known for digest in digests)
    raise ValueError(
        f"loader must hold images that calibration has not seen; {shared} of its images are among "
        f"the {len(known)} calibration images. Evaluate on held-out images."
    )
