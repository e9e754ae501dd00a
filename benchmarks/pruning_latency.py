r"""Half of the time asked for, against half of the time found by other counts; last line JSON.

    python benchmarks/pruning_latency.py --data FOLDER --networks FOLDER [--clock onnx] \
        [--share .5] [--images 16] [--threads 2] [--only NAME ...] [--seeds N] [--out FOLDER]

`prune(latency=SHARE)`, and torch-pruning's `group_l2` at shares of the multiply-accumulates, all
refitted: time of batches of `--images` over the dense network's, measured in turns, in PyTorch or
(`--clock onnx`) in ONNX Runtime, and accuracy on test images. In ONNX Runtime ours keeps multiples
of 8 or of 16 channels, `group_l2` any or multiples of 8. Rows "at that time" are `group_l2` between
those of the same multiples that enclose the time of ours. A share of time that no width reaches is
said, and left out. Wants a quiet machine. Networks and images are those of `pruning_subjects.py`.
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

sys.path.insert(0, str(Path(__file__).parent.parent))

from empirical import prune
from empirical.pruning.forecast_law import Answers
from empirical.pruning.latency import latencies, onnx_latencies
from empirical.pruning.layer_times import MeasuredTimes
from empirical.pruning.onnx_times import OnnxTimes
from theory.shared.files import write_table

CLOCKS = {"torch": latencies, "onnx": onnx_latencies}
MULTIPLES = {"torch": (1,), "onnx": (8, 16)}
"""Of channels, that ours keeps under a clock."""
OTHERS = {"torch": (1,), "onnx": (1, 8)}
"""Those that `group_l2` keeps."""
OTHER = {"criterion": "group_l2", "allocation": "uniform"}
SHARES = (0.6, 0.45, 0.3, 0.2, 0.1)
REPEATS = 40


def timed(subject: Subject, share: float, clock: str, images: torch.Tensor) -> pd.DataFrame:
    """Rows of one network: ours at a share of the time, the other at shares of its MACs."""
    known = subject.known
    graph = known.graph
    known.times = (
        OnnxTimes(graph, images)
        if clock == "onnx"
        else MeasuredTimes.of(known.model, graph, images)
    )
    ours: list[dict[str, Any]] = [{"latency": share, "round_to": m} for m in MULTIPLES[clock]]
    theirs = [{"macs": macs, "round_to": m} | OTHER for m in OTHERS[clock] for macs in SHARES]
    rows = []
    for how in ours + theirs:
        try:
            pruned = prune(known.model, known, recovery="reconstruct", **how)
        except ValueError as error:  # no width reaches that
            print(*subject.which, how, error, flush=True)
            continue
        before, after = CLOCKS[clock]([known.model, pruned.model], images, repeats=REPEATS)
        answers = Answers.of(pruned.model, subject.test)
        rows.append(
            {
                "selection": how.get("criterion", "latency"),
                "multiple": how["round_to"],
                "macs": pruned.report.macs_share,
                "time": after.median / before.median,
                "time_of_report": pruned.report.measured_time,
                "drop": 100 * (subject.dense.accuracy - answers.accuracy),
            }
        )
    table = pd.DataFrame(rows)
    return pd.concat([table, *at_times_of_ours(table)], ignore_index=True)


def at_times_of_ours(table: pd.DataFrame) -> list[pd.DataFrame]:
    """The other's MACs and points lost at the time of ours, where its rows enclose it."""
    found = []
    for ours in table[table["selection"] == "latency"].itertuples():
        for multiple, others in table[table["selection"] != "latency"].groupby("multiple"):
            known = others.sort_values("time")
            if not known["time"].min() <= ours.time <= known["time"].max():
                continue
            row = {"selection": f"{OTHER['criterion']} at that time", "multiple": multiple}
            row |= {"time": ours.time, "of": ours.multiple}
            row |= {
                name: np.interp(ours.time, known["time"], known[name]) for name in ("macs", "drop")
            }
            found.append(pd.DataFrame([row]))
    return found


def main() -> None:
    """Measure, write a table, and print one JSON object last."""
    parser = arguments(__doc__ or "", "runs/pruning_latency")
    parser.add_argument("--clock", choices=CLOCKS, default="torch")
    parser.add_argument("--share", type=float, default=0.5)
    parser.add_argument("--images", type=int, default=16, help="of a batch that is timed")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    place = Place(options.data, options.networks, options.device)
    parts = []
    for which in all_networks(options.only, options.seeds):
        subject = Subject(which, place)
        images = subject.test[0][0][: options.images]
        found = timed(subject, options.share, options.clock, images)
        for number, (name, value) in enumerate(
            {"network": which[0], "seed": which[1], "images": options.images}.items()
        ):
            found.insert(number, name, value)
        parts.append(found)
        print(found.round(3).to_string(index=False), flush=True)
    table = pd.concat(parts, ignore_index=True)
    options.out.mkdir(parents=True, exist_ok=True)
    write_table(options.out / f"{options.clock}_{options.images}.csv", table)
    ours = table[table["selection"] == "latency"]
    said = ("network", "seed", "multiple", "time", "drop")
    print(
        json.dumps(
            {
                "clock": options.clock,
                "threads": options.threads,
                "images": options.images,
                "ours": ours[[*said]].round(4).to_dict("records"),
                "other": table.dropna(subset=["of"])[[*said]].round(4).to_dict("records")
                if "of" in table
                else [],
            }
        )
    )


if __name__ == "__main__":
    main()
