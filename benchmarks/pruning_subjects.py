"""Trained networks with images to calibrate and to count on, and processes that work on them.

ResNet-18, VGG-16 and MobileNetV2 of width 1/4 as `scripts/damage_law_networks.py` trains them on
CIFAR-10, or as a run of `scripts/evidence.py` left them, of several seeds, and one ResNet-20,
trained by others. Calibration images are training images, counted ones test images, of one draw
each.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing as mp
import sys
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy import stats

sys.path.insert(0, str(Path(__file__).parent.parent))

from empirical import ImageSet, image_loader, load_data
from empirical.devices import full_precision
from empirical.pruning.calibration import Calibration
from empirical.pruning.distillation import Distillation
from empirical.pruning.forecast_law import Answers
from scripts.damage_law_networks import network
from theory.shared.store import Cells

TRAINED = ("resnet18", "vgg16", "mobilenetv2")
NETWORKS = (*TRAINED, "resnet20")
CALIBRATION, TEST = 1500, 2000
CODE = ("empirical.pruning.pruner", "empirical.pruning.forecasting")

Which = tuple[str, int]
"""A network by name and seed."""

Cell = Mapping[str, Any]
"""What names a result."""


@dataclass(frozen=True)
class Place:
    """Where data and networks lie, where to compute, and how to distill."""

    data: Path
    networks: Path
    device: str = "cpu"
    steps: int = 300
    images_used: int = CALIBRATION

    def images(self) -> tuple[ImageSet, ImageSet]:
        """Training and test images, decoded once."""
        return load_data(self.data, cache=self.networks / "cache")


class Subject:
    """A trained network with its images."""

    def __init__(self, which: Which, place: Place) -> None:
        self.which, self.place = which, place

    @cached_property
    def _sets(self) -> tuple[ImageSet, ImageSet]:
        train, test = self.place.images()
        if self.which[0] != "resnet20":
            return train, test
        mean, std = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
        return replace(train, mean=mean, std=std), replace(test, mean=mean, std=std)

    @cached_property
    def known(self) -> Calibration:
        """The network on training images."""
        name, seed = self.which
        train, device = self._sets[0], self.place.device
        model = network(name, self.place.networks, train, seed, device)
        how = Distillation(epochs=1, steps_at_least=max(1, self.place.steps))
        return Calibration(
            model, image_loader(train, _drawn(train, self.place.images_used)), distillation=how
        )

    @cached_property
    def test(self) -> list[tuple[torch.Tensor, torch.Tensor]]:
        """Batches of test images, where the network is."""
        test, device = self._sets[1], self.known.device
        loader = image_loader(test, _drawn(test, TEST))
        return [(images.to(device), labels.to(device)) for images, labels in loader]

    @cached_property
    def dense(self) -> Answers:
        """What the network says of the test images."""
        return Answers.of(self.known.model, self.test)

    def scored(self, answers: Answers) -> dict[str, Any]:
        """Divergence, agreement, and which images were right, as hexadecimal digits."""
        assert answers.labels is not None
        right = answers.logits.argmax(1).eq(answers.labels).numpy()
        found = self.dense.against(answers)
        return {
            "kl": found["kl"], "agreement": found["agreement"], "images": len(right),
            "right": np.packbits(right).tobytes().hex(),
        }  # fmt: skip


def right(row: Mapping[str, Any]) -> np.ndarray:
    """Which test images were right, 0 or 1 each, of what `Subject.scored` found."""
    bits = np.frombuffer(bytes.fromhex(row["right"]), dtype=np.uint8)
    return np.unpackbits(bits)[: row["images"]].astype(np.float64)


def spread(values: np.ndarray) -> float:
    """Half of the mean's 95 % Student interval; NaN of fewer than two values."""
    n = len(values)
    return float(stats.t.ppf(0.975, n - 1) * values.std(ddof=1) / n**0.5) if n > 1 else np.nan


def _drawn(images: ImageSet, count: int) -> torch.Tensor:
    return torch.randperm(len(images), generator=torch.Generator().manual_seed(0))[:count]


Compute = Callable[[Subject, Cell], dict[str, Any]]
"""A function of a module: it is looked up by name in other processes."""


@dataclass(frozen=True)
class Unit:
    """Cells of one network that share what they measure; lower `turn` first."""

    which: Which
    cells: tuple[Cell, ...]
    turn: int = 0


def all_networks(only: Sequence[str], seeds: int) -> list[Which]:
    """Seed by seed; of ResNet-20 there is one."""
    return [(name, s) for s in range(seeds) for name in only if name in TRAINED or s == 0]


def at_work(
    units: Sequence[Unit], compute: Compute, place: Place, folder: Path, options: argparse.Namespace
) -> list[dict[str, Any]]:
    """Every cell of `units` that is known in the end, computed by several processes.

    Each row is kept in `folder`, a file per network, as it ends; after `options.minutes` the
    processes are stopped. A cell that fails is named, and the others go on.
    """
    if not units:
        return []
    train, test = place.images()
    inputs = {"images": [train.fingerprint, place.images_used], "test": [test.fingerprint, TEST]}
    inputs |= {"device": torch.device(place.device).type}
    with ExitStack() as stack:
        kept = {
            which: stack.enter_context(Cells(folder / f"{which[0]}-{which[1]}.jsonl", inputs, CODE))
            for which in dict.fromkeys(unit.which for unit in units)
        }
        missing = []
        for unit in units:
            cells = tuple(cell for cell in unit.cells if kept[unit.which].get(cell) is None)
            missing += [replace(unit, cells=cells)] if cells else []
        if missing and options.minutes > 0:
            for which, cell, found in _results(missing, compute, place, options):
                kept[which].add(cell, found)
        return [
            {"network": unit.which[0], "seed": unit.which[1]} | dict(cell) | row
            for unit in units
            for cell in unit.cells
            if (row := kept[unit.which].get(cell)) is not None
        ]


def earlier(folder: Path) -> list[dict[str, Any]]:
    """Rows of all cells that lie in a folder, whatever code made them; `run` is its name."""
    rows = []
    for file in sorted(folder.glob("*.jsonl")):
        name, _, seed = file.stem.partition("-")
        for line in file.read_text(encoding="utf-8").splitlines():
            kept = json.loads(line)
            row = {"network": name, "seed": int(seed or 0), "run": folder.name} | kept["cell"]
            rows.append(DENSE | row | {"images": TEST} | kept["result"])
    return rows


DENSE = {"share": 1.0, "recovery": "dense", "criterion": "", "allocation": "", "steps": 0}
"""What names the network as it is."""


def _results(
    units: list[Unit], compute: Compute, place: Place, options: argparse.Namespace
) -> Iterator[tuple[Which, Cell, dict[str, Any]]]:
    """Results as they come, until the time is over."""
    until = time.monotonic() + 60 * options.minutes
    left, holds = list(units), {}
    context = mp.get_context("spawn")
    processes: dict[Connection, Any] = {}

    def start() -> None:
        own, other = context.Pipe()
        process = context.Process(target=_work, args=(other, compute, place), daemon=True)
        process.start()
        other.close()
        processes[own] = process

    for _ in range(max(1, min(options.workers, len(units)))):
        start()
    try:
        while processes and time.monotonic() < until:
            for connection in wait(list(processes), timeout=max(0.0, until - time.monotonic())):
                assert isinstance(connection, Connection)
                try:
                    said = connection.recv()
                except EOFError:  # it died
                    print("a process ended in", holds.pop(connection, None), flush=True)
                    processes.pop(connection).join()
                    if left:
                        start()
                    continue
                if said is not None:
                    yield said
                elif left:
                    unit = _next(left, holds, connection)
                    holds[connection] = unit.which
                    connection.send(unit)
                else:
                    connection.send(None)
                    holds.pop(connection, None)
                    processes.pop(connection).join()
    finally:
        for process in processes.values():
            process.terminate()


def _next(left: list[Unit], holds: Mapping[Connection, Which], connection: Connection) -> Unit:
    """The next turn's first unit, of the same network if there is one, else where fewest work."""
    at = Counter(holds.values())
    own = holds.get(connection)
    unit = min(left, key=lambda u: (u.turn, u.which != own, at[u.which]))
    left.remove(unit)
    return unit


@lru_cache(maxsize=2)
def _subject(which: Which, place: Place) -> Subject:
    return Subject(which, place)


def _work(connection: Connection, compute: Compute, place: Place) -> None:
    """Ask for units with None, and answer with (network, cell, result), until there are no more."""
    torch.set_num_threads(1)
    while True:
        connection.send(None)
        unit = connection.recv()
        if unit is None:
            return
        for cell in unit.cells:
            began = time.perf_counter()
            try:
                with full_precision():
                    found = compute(_subject(unit.which, place), cell)
            except (RuntimeError, ValueError, TypeError, LookupError):
                print("FAILED", *unit.which, json.dumps(dict(cell)), flush=True)
                traceback.print_exc()
                continue
            print(*unit.which, *cell.values(), f"{time.perf_counter() - began:.1f} s", flush=True)
            connection.send((unit.which, cell, found))


def arguments(document: str, out: str) -> argparse.ArgumentParser:
    """What every such program asks."""
    parser = argparse.ArgumentParser(description=document.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, help="folder of CIFAR-10's images")
    parser.add_argument("--networks", type=Path, required=True, help="folder of trained networks")
    parser.add_argument("--cells", type=Path, default=Path(out), help="results, as they end")
    parser.add_argument("--out", type=Path, default=Path(out), help="tables and figures")
    parser.add_argument("--only", nargs="+", choices=NETWORKS, default=NETWORKS)
    parser.add_argument("--seeds", type=int, default=3, help="networks of each architecture")
    parser.add_argument("--workers", type=int, default=1, help="processes of one thread each")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--minutes", type=float, default=600.0, help="0 only makes the tables")
    return parser
