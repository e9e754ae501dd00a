r"""Half of the time, by ours and by another selection; last line JSON.

    python benchmarks/pruning_latency.py --data FOLDER --networks FOLDER [--clocks torch onnx] \
        [--images 16 64] [--share .5] [--threads 2] [--only NAME ...] [--seeds N] [--out FOLDER]

`prune(latency=SHARE)` by default and by torch-pruning's `group_l2`, both refitted, on one table of
times: what the network takes of the dense one's time, measured anew in turns on test images, and
points of accuracy lost. In ONNX Runtime multiples of 8 or of 16 channels stay. A share that no
width reaches is said, and left out. Wants a quiet machine. Networks and images are those of
`pruning_subjects.py`.
"""

from __future__ import annotations

import copy
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from pruning_subjects import Place, Subject, all_networks, arguments, spread

sys.path.insert(0, str(Path(__file__).parent.parent))

from empirical import prune
from empirical.pruning.forecast_law import Answers
from empirical.pruning.latency import latencies, onnx_latencies
from empirical.pruning.layer_times import MeasuredTimes
from empirical.pruning.onnx_times import OnnxTimes
from theory.shared.files import write_table

CLOCKS = {"torch": latencies, "onnx": onnx_latencies}
MULTIPLES = {"torch": (1,), "onnx": (8, 16)}
"""Of channels, that stay under a clock."""
SELECTIONS: dict[str, dict[str, str]] = {
    "ours": {},
    "group_l2": {"criterion": "group_l2", "allocation": "uniform"},
}
SECONDS = 4.0


def timed(subject: Subject, share: float, clock: str, images: int) -> Iterator[dict[str, Any]]:
    """Rows of one network on batches of so many images."""
    known = copy.copy(subject.known)
    batch = subject.test[0][0][:images]
    known.times = (
        OnnxTimes(known.graph, batch)
        if clock == "onnx"
        else MeasuredTimes.of(known.model, known.graph, batch)
    )
    for multiple in MULTIPLES[clock]:
        for name, how in SELECTIONS.items():
            asked = {"latency": share, "round_to": multiple, "recovery": "reconstruct"} | how
            row = dict(zip(("network", "seed"), subject.which, strict=True))
            row |= {"clock": clock, "images": images, "multiple": multiple, "selection": name}
            try:
                pruned = prune(known.model, known, **asked)
            except ValueError as error:  # no width reaches that
                print(row, error, flush=True)
                continue
            before, after = CLOCKS[clock]([known.model, pruned.model], batch, seconds=SECONDS)
            lost = subject.dense.accuracy - Answers.of(pruned.model, subject.test).accuracy
            row |= {"macs": pruned.report.macs_share, "reported": pruned.report.measured_time}
            row |= {"time": after.median / before.median, "milliseconds": 1e3 * before.median}
            print(row := row | {"drop": 100 * lost}, flush=True)
            yield row


def main() -> None:
    """Measure, write a table, and print one JSON object last."""
    parser = arguments(__doc__ or "", "runs/pruning_latency")
    parser.add_argument("--clocks", nargs="+", choices=CLOCKS, default=list(CLOCKS))
    parser.add_argument("--share", type=float, default=0.5)
    parser.add_argument("--images", nargs="+", type=int, default=[16, 64], help="of a batch")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    place = Place(options.data, options.networks, options.device)
    rows = []
    for which in all_networks(options.only, options.seeds):
        subject = Subject(which, place)
        known = subject.known  # what its copies share is measured once
        prune(known.model, known, macs=options.share, recovery="reconstruct")
        for clock in options.clocks:
            for images in options.images:
                rows += timed(subject, options.share, clock, images)
    if not rows:
        raise SystemExit("no width of any network reaches that share")
    table = pd.DataFrame(rows)
    options.out.mkdir(parents=True, exist_ok=True)
    write_table(options.out / "pruning_latency.csv", table)
    found = table.groupby(["network", "clock", "images", "multiple", "selection"], sort=False)
    over = {"mean": "mean", "half_interval": lambda values: spread(values.to_numpy())}
    summary = found[["time", "drop"]].agg(**{
        f"{name}_{how}": (name, function) for name in ("time", "drop")
        for how, function in over.items()
    })  # fmt: skip
    summary.insert(0, "networks", found.size())
    print(summary.round(3).to_string())
    print(summary.reset_index().round(4).to_json(orient="records"))


if __name__ == "__main__":
    main()
