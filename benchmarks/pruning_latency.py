r"""Half of the time asked for, against half of the time found by other counts; last line JSON.

    python benchmarks/pruning_latency.py --data FOLDER --networks FOLDER \
        [--share .5] [--images 16] [--threads 2] [--only NAME ...] [--seeds N] [--out FOLDER]

`prune(latency=SHARE)`, and torch-pruning's `group_l2` at shares of the multiply-accumulates, all
refitted: time of batches of `--images` over the dense network's, measured in turns, of PyTorch and
of ONNX Runtime, and accuracy on test images. Where these enclose the time of ours, a last row is
`group_l2` between them at that time. A share of time that no width reaches is said, and left out.
Wants a quiet machine. Networks and images are those of `pruning_subjects.py`.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from pruning_subjects import Place, Subject, all_networks, arguments
from torch import nn

sys.path.insert(0, str(Path(__file__).parent.parent))

from empirical import prune
from empirical.pruning.forecast_law import Answers
from empirical.pruning.latency import latencies, onnx_latencies
from empirical.pruning.layer_times import MeasuredTimes
from theory.shared.files import write_table

OTHER = {"criterion": "group_l2", "allocation": "uniform"}
SHARES = (0.6, 0.45, 0.3, 0.2, 0.1)
REPEATS = 40


def timed(subject: Subject, share: float, images: torch.Tensor) -> list[dict[str, Any]]:
    """Rows of one network: ours at a share of the time, then the other at shares of its MACs."""
    known = subject.known
    known.times = MeasuredTimes.of(known.model, known.graph, images)
    asked: list[dict[str, Any]] = [{"latency": share}]
    asked += [{"macs": macs} | OTHER for macs in SHARES]
    made = [prune(known.model, known, recovery="reconstruct", **how) for how in asked]
    rows = []
    for how, pruned in zip(asked, made, strict=True):
        answers = Answers.of(pruned.model, subject.test)
        rows.append(
            {
                "selection": how.get("criterion", "latency"),
                "macs": pruned.report.macs_share,
                "time": over_dense(latencies, known.model, pruned.model, images),
                "onnx_time": over_dense(onnx_latencies, known.model, pruned.model, images),
                "foretold_time": pruned.report.measured_time,
                "drop": 100 * (subject.dense.accuracy - answers.accuracy),
            }
        )
    ours, others = rows[0], pd.DataFrame(rows[1:]).sort_values("time")
    at = {
        name: float(np.interp(ours["time"], others["time"], others[name]))
        for name in ("macs", "onnx_time", "drop")
    }
    enclosed = others["time"].min() <= ours["time"] <= others["time"].max()
    rows.append({"selection": "group_l2 at that time", "time": ours["time"], **at})
    return rows if enclosed else rows[:-1]


def over_dense(clock: Any, dense: nn.Module, pruned: nn.Module, images: torch.Tensor) -> float:
    """Median time of the pruned network over the dense one's, in turns."""
    before, after = clock([dense, pruned], images, repeats=REPEATS)
    return float(after.median / before.median)


def main() -> None:
    """Measure, write a table, and print one JSON object last."""
    parser = arguments(__doc__ or "", "runs/pruning_latency")
    parser.add_argument("--share", type=float, default=0.5)
    parser.add_argument("--images", type=int, default=16, help="of a batch that is timed")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    place = Place(options.data, options.networks, options.device)
    rows = []
    for which in all_networks(options.only, options.seeds):
        subject = Subject(which, place)
        try:
            found = timed(subject, options.share, subject.test[0][0][: options.images])
        except ValueError as error:
            print(*which, error, flush=True)
            continue
        key = {"network": which[0], "seed": which[1], "images": options.images}
        rows += [key | row for row in found]
        print(pd.DataFrame(rows[-len(found) :]).round(3).to_string(index=False), flush=True)
    if not rows:
        raise SystemExit("no network reaches that share of its time; ask for more")
    table = pd.DataFrame(rows)
    options.out.mkdir(parents=True, exist_ok=True)
    write_table(options.out / "latency.csv", table)
    ours = table[table["selection"] == "latency"]
    both = table.pivot_table(index=["network", "seed"], columns="selection", values="drop")
    more = both["latency"] - both.get("group_l2 at that time", np.nan)
    print(
        json.dumps(
            {
                "threads": options.threads,
                "time": ours["time"].round(4).tolist(),
                "onnx_time": ours["onnx_time"].round(4).tolist(),
                "drop": float(ours["drop"].mean()),
                "more_than_group_l2": None if more.isna().all() else float(more.mean()),
            }
        )
    )


if __name__ == "__main__":
    main()
