"""How to run a set of lesions: what is run again, how many at once, and what is run whole."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor, fx, nn

from empirical.devices import full_precision, queued, room
from empirical.lesions.execution import (
    Change,
    Lesioned,
    Runner,
    edited_module,
    naive_runner,
    one_by_one,
)
from empirical.lesions.graph import TRACING_ERRORS, Program, UntraceableError
from empirical.lesions.interventions import Job
from empirical.lesions.rules import is_activation
from empirical.lesions.suffix import Suffix, batch_free, fuse_norms, pair_bytes, value_bytes
from empirical.reading.hooks import evaluating
from empirical.reading.outputs import apart, moved_by_images

METHODS = ("fast", "naive")

MEMORY = 2 << 30
"""Bytes of the host that the activations of a lesion run may take by default."""

IMAGES_AT_ONCE = 64
PAIRS_AT_ONCE = 256
"""Beyond these, larger batches are no faster on a CPU and leave its caches."""

IMAGES_ON_DEVICE = 256
"""There memory alone bounds the pairs, of which it has room for more where images are fewer."""


@dataclass(frozen=True)
class Plan:
    """A runner for each job, and why some layers' lesions are whole forward passes."""

    runners: list[Runner]
    fallback: dict[str, str] = field(default_factory=dict)
    images_at_once: int | None = None


class Intact:
    """The intact network's values on the batch at hand, computed once for all lesions of it."""

    def __init__(self, program: Program) -> None:
        self.program = program
        self.images: Tensor | None = None
        self.values: dict[fx.Node, Any] = {}

    def on(self, images: Tensor) -> dict[fx.Node, Any]:
        """Return every node's value on `images`."""
        if self.images is not images:
            self.values = {}  # free the last batch before the next is computed
            laid_out = images
            if images.ndim == 4 and images.device.type == "cpu":
                laid_out = images.contiguous(memory_format=torch.channels_last)
            self.values = self.program.run(laid_out)
            self.images = images
        return self.values


def plan_runs(
    model: nn.Module, example: Tensor, jobs: Sequence[Job], method: str, memory: int | None
) -> Plan:
    """Plan the runs of all jobs, each compared with its naive twin on the example.

    Parameters
    ----------
    example : A few images of the evaluation set
    memory : bytes for activations; None for `MEMORY`, or half of what is free on a CUDA device

    Raises
    ------
    ValueError
        `memory` too small for one lesion of one image.

    Warns
    -----
    RuntimeWarning
        Layers whose lesions have to be run by whole forward passes.
    """
    inside = any(job.point == "post_activation" for job in jobs)
    if method == "naive" and not inside:
        return Plan([naive_runner(model)] * len(jobs))
    with evaluating(model), full_precision():
        try:
            program = Program(model)
            values, expected = program.run(example[:1]), model(example[:1])
            moved = moved_by_images(model, example, model(example))
            if apart(values[program.result], expected, moved):
                raise UntraceableError(
                    "an operation in place changes what something else reads, which a graph of its "
                    "operations does not"
                )
            sizes = value_bytes(values)
        except (UntraceableError, *TRACING_ERRORS) as error:
            if inside:
                raise ValueError(
                    "point 'post_activation' needs a model whose operations can be traced; this "
                    f"one's cannot: {error}. Use point='pre_norm'."
                ) from error
            fallback = {job.layer.name: str(error) for job in jobs}
            _warn(fallback)
            return Plan([naive_runner(model)] * len(jobs), fallback)
        naive = _graph_runner(program) if inside else naive_runner(model)
        if method == "naive":
            return Plan([naive] * len(jobs))
        suffixes, fallback = _suffixes(program, jobs, values)
        memory = room(example.device, MEMORY) if memory is None else memory
        most = (IMAGES_AT_ONCE, PAIRS_AT_ONCE)
        if queued(example.device):
            most = (IMAGES_ON_DEVICE, memory)
        images, pairs = _divide(memory, sizes, suffixes, batch_free(program), most)
        intact, runners = Intact(program), []
        for job, suffix, most_pairs in zip(jobs, suffixes, pairs, strict=True):
            fast = naive if suffix is None else _fast_runner(intact, suffix, most_pairs)
            reason = (
                None
                if suffix is None
                else _disagreement(intact, fast, naive, example[:images], job, moved)
            )
            if reason is not None:
                fallback[job.layer.name] = reason
                fast = naive
            runners.append(fast)
    _warn(fallback)
    return Plan(runners, fallback, images)


def _suffixes(
    program: Program, jobs: Sequence[Job], values: dict[fx.Node, Any]
) -> tuple[list[Suffix | None], dict[str, str]]:
    """The suffix of each job, None where there is none; `values` are those on one image."""
    constant, fused = batch_free(program), fuse_norms(program)
    found: dict[fx.Node, Suffix] = {}
    suffixes: list[Suffix | None] = []
    fallback: dict[str, str] = {}
    for job in jobs:
        try:
            site = site_of(program, job)
            if site not in found:
                suffix = Suffix(program, site, constant, fused)
                read = (v for node in suffix.beside if isinstance(v := values[node], Tensor))
                if any(value.ndim == 0 or len(value) != 1 for value in read):
                    raise UntraceableError("it reads values beside that are not one of each image")
                found[site] = suffix
            suffixes.append(found[site])
        except UntraceableError as error:
            suffixes.append(None)
            fallback[job.layer.name] = str(error)
    return suffixes, fallback


def site_of(program: Program, job: Job) -> fx.Node:
    """Return the node whose value the job changes.

    Raises
    ------
    UntraceableError
        No single node is at the job's point.
    """
    node = program.node_of(edited_module(job))
    if job.point == "input":
        read = node.args[0] if node.args else None
        if not isinstance(read, fx.Node) or len(read.users) != 1:
            raise UntraceableError(f"more than {job.reader!r} reads its input")
        return read
    if job.point != "post_activation":
        return node
    readers = list(node.users)
    if len(readers) != 1 or not is_activation(program, readers[0]):
        raise UntraceableError(f"no activation alone reads the output of {job.layer.name!r}")
    return readers[0]


def _graph_runner(program: Program) -> Runner:
    """Return the naive runner on the traced graph, which also knows what is between modules."""

    def forward(images: Tensor, job: Job, change: Change) -> Tensor:
        logits: Tensor = program.run(images, {site_of(program, job): change})[program.result]
        return logits

    return one_by_one(forward)


def _divide(
    memory: int,
    sizes: dict[fx.Node, int],
    suffixes: Sequence[Suffix | None],
    constant: set[fx.Node],
    most: tuple[int, int],
) -> tuple[int, list[int]]:
    """Return how many images, and for each job how many pairs, are run at once: at most `most`."""
    image = sum(size for node, size in sizes.items() if node not in constant)
    pair = [0 if suffix is None else pair_bytes(suffix, sizes) for suffix in suffixes]
    least = image + max(pair, default=0)
    if memory < least:
        raise ValueError(
            f"memory must be at least {least} bytes, which one lesion of one image takes; got "
            f"{memory}. Raise it, or pass method='naive'."
        )
    # images take half at most, so that there is room for lesions of them
    images = min(most[0], memory // least, max(1, memory // 2 // image))
    left = memory - images * image
    return images, [min(most[1], left // size) if size else images for size in pair]


def _fast_runner(intact: Intact, suffix: Suffix, most_pairs: int) -> Runner:
    def run(images: Tensor, job: Job) -> Iterator[Lesioned]:
        yield from suffix.run(intact.on(images), job, most_pairs)

    return run


def _disagreement(
    intact: Intact, fast: Runner, naive: Runner, example: Tensor, job: Job, moved: float
) -> str | None:
    """Run the job's first and last lesion both ways, the fast one with both of them at once.

    Return why the fast way cannot be used, or None.
    """
    ends = replace(job, channels=job.channels[sorted({0, len(job.channels) - 1})])
    expected = torch.stack([part.logits for part in naive(example, ends)])
    try:
        obtained = intact.on(example)[intact.program.result].expand_as(expected).clone()
        for part in fast(example, ends):
            obtained[part.lesion, part.image] = part.logits
    except TRACING_ERRORS as error:
        return f"it does not run on several lesions at once ({str(error).splitlines()[0]})"
    if difference := apart(obtained, expected, moved):
        return (
            f"run in parts, its logits differ by {difference:.3g}: it mixes images or keeps state"
        )
    return None


def _warn(fallback: dict[str, str]) -> None:
    if fallback:
        name, reason = next(iter(fallback.items()))
        warnings.warn(
            f"{len(fallback)} layers are lesioned by whole forward passes, which is slower and "
            f"equally exact; {name!r}: {reason}.",
            RuntimeWarning,
            stacklevel=4,
        )
