"""Everything that a user does with a network, done to one of the zoo: one row of numbers."""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from empirical import AxisTable, Calibration, lesion, measure, prune, replace
from empirical.pruning.choosing import Request
from empirical.pruning.removal import mask, remove
from empirical.reading.hooks import evaluating
from tests.empirical.planted import largest_change
from tests.zoo.networks import ZOO, Network, batches, lively

SHARE = 0.7
CRITERIA = ("l2", "replaceability")
RECOVERIES = ("none", "recalibrate", "merge", "compensate", "reconstruct", "fold")
LESIONED = 8
"""Channels that are lesioned and replaced, of one layer."""


@dataclass
class Row:
    """What one network gave. Differences are of the largest output, shares of the dense network."""

    name: str
    layers: int = 0
    measured: int = 0
    groups: int = 0
    kept_whole: int = 0
    commonest: str = ""
    planted: float = float("nan")
    removed_masked: float = float("nan")
    share: dict[str, float] = field(default_factory=dict)
    independent: dict[str, float] = field(default_factory=dict)
    refused: dict[str, str] = field(default_factory=dict)


def row(name: str) -> Row:
    """Measure, lesion, replace and prune one network of the zoo."""
    torch.manual_seed(0)
    network = ZOO[name]
    model = lively(network.build())
    images = batches(network)
    found = Row(name)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", ".*lesioned by whole forward passes")
        warnings.filterwarnings("ignore", "layers have fewer than 10 samples per channel")
        with _or_refused(found, "measure"):
            table = measure(
                model, images[:2], positions=4, groups=1, standard_errors=False, hull=False
            )
            found.measured = len(table.axes)
            _lesion_and_replace(found, model, network, table)
        known = Calibration(model, images, skip=network.skip, refit_images=64)
        with _or_refused(found, "trace"):
            _trace(found, known)
            _prune(found, known)
    return found


@contextmanager
def _or_refused(found: Row, step: str) -> Iterator[None]:
    try:
        yield
    except ValueError as error:
        found.refused[step] = str(error)


def _lesion_and_replace(found: Row, model: nn.Module, network: Network, table: AxisTable) -> None:
    others = batches(network, seed=2)[:1]
    sizes = table.to_frame().groupby("layer", sort=False).size()
    layer = next(name for name, size in sizes.items() if size >= LESIONED)
    channels = {layer: list(range(LESIONED))}
    with _or_refused(found, "lesion"):
        damage = lesion(model, others, channels=channels, calibration=table).to_frame()
        assert len(damage) == 2 * LESIONED
        assert np.isfinite(damage.select_dtypes("number")).all(axis=None)
    with _or_refused(found, "replace"):
        recovered = replace(model, others, table, channels=channels, peers="all").to_frame()
        assert set(recovered.channel) == set(range(LESIONED))


def _trace(found: Row, known: Calibration) -> None:
    graph = known.graph
    reasons = Counter(graph.kept_whole.values())
    found.groups, found.kept_whole = len(graph.groups), len(graph.kept_whole)
    found.layers = len(graph.layers)
    found.commonest = reasons.most_common(1)[0][0] if reasons else ""
    found.planted = largest_change(known.model, graph, known.batch[:4])


def _prune(found: Row, known: Calibration) -> None:
    dense = independent_macs(known.model, known.example)
    for criterion in CRITERIA:
        for recovery in RECOVERIES:
            with _or_refused(found, f"{criterion}, {recovery}"):
                small = prune(
                    known.model, known, macs=SHARE, criterion=criterion, recovery=recovery
                )
                with evaluating(small.model):
                    assert bool(small.model(known.batch).isfinite().all()), recovery
                key = f"{criterion}, {recovery}"
                found.share[key] = small.report.macs_share
                found.independent[key] = independent_macs(small.model, known.example) / dense
    kept = Request(SHARE, "l2", "uniform").kept(known)
    removed = remove(known.model, known.graph, kept, known.example)
    masked = mask(known.model, known.graph.groups, kept)
    found.removed_masked = difference(removed, masked, known.batch)


def difference(one: nn.Module, other: nn.Module, images: Tensor) -> float:
    """Largest difference of two networks' outputs, of the largest output."""
    with evaluating(one), evaluating(other):
        first, second = one(images), other(images)
    return float((first - second).abs().max() / second.abs().max())


def independent_macs(model: nn.Module, example: Tensor) -> int:
    """Multiply-accumulates by torch's own counter under gradients, attention as plain products.

    Recurrent layers by formula: steps × Σ (gates · hidden) × (inputs + hidden).
    """
    gates = {nn.GRU: 3, nn.LSTM: 4}
    recurrent = {n: m for n, m in model.named_modules() if type(m) in gates}
    total = 0

    def count(module: Any, inputs: tuple[Any, ...], _output: object) -> None:
        nonlocal total
        rows = gates[type(module)] * module.hidden_size
        total += inputs[0].shape[1] * rows * (module.input_size + module.hidden_size)

    handles = [module.register_forward_hook(count) for module in recurrent.values()]
    was_training = model.training
    needed = {p: p.requires_grad for p in model.parameters()}
    try:
        model.eval().requires_grad_(True)
        with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
            model(example[:1])
    finally:
        model.train(was_training)
        for parameter, asked in needed.items():
            parameter.requires_grad_(asked)
        for handle in handles:
            handle.remove()
    counts = counter.get_flop_counts()
    root = type(model).__name__
    own = sum(sum(counts.get(f"{root}.{name}", {}).values()) for name in recurrent)
    return (counter.get_total_flops() - own) // 2 + total
