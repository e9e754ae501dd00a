"""`twoaxis prune`: one network made smaller, saved, and what that cost."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from empirical.commands.options import TARGET, spread
from empirical.commands.source import NetworkSource

if TYPE_CHECKING:
    import torch

    from empirical.commands.source import OpenNetwork
    from empirical.pruning.calibration import Calibration
    from empirical.pruning.latency import Latency
    from empirical.pruning.pruning_report import PrunedModel
    from empirical.training.evaluation import Evaluation

EXPORTS = {"onnx": "pruned.onnx", "torch": "pruned.pt2"}
"""Format -> file."""


@dataclass(frozen=True, kw_only=True)
class PruneOptions:
    """How much goes, which channels, where, and what is done afterwards; see `empirical.prune`."""

    macs: Annotated[
        float | None,
        typer.Option(help="Share of multiply-accumulates to keep (0.5 if nothing is said)."),
    ] = None
    parameters: Annotated[
        float | None, typer.Option(help="Share of the parameters to keep, instead.")
    ] = None
    latency: Annotated[
        float | None,
        typer.Option(
            help="Share of the measured time to keep, instead; with --export onnx of that in ONNX "
            "Runtime, where --round-to 16 goes with it."
        ),
    ] = None
    accuracy_drop: Annotated[
        float | None,
        typer.Option(help="Points of accuracy that may be lost, instead: foretold, then verified."),
    ] = None
    criterion: Annotated[
        str,
        typer.Option(
            help="Which channels stay; auto is task_replaceability, where outputs are not logits "
            "replaceability; 'list' prints all criteria."
        ),
    ] = "auto"
    allocation: Annotated[
        str,
        typer.Option(
            help="uniform, global, sensitivity, damage or measured_damage; auto is one of the last "
            "two, by held-out images, under task_replaceability, global under replaceability, "
            "uniform under others."
        ),
    ] = "auto"
    recovery: Annotated[
        str,
        typer.Option(
            help="auto (reconstruct or compensate, by held-out images), none, recalibrate, "
            "merge, compensate (both), reconstruct (every layer refitted), distill (and trained "
            "without labels), fold; finetune, compensate_finetune or reconstruct_finetune."
        ),
    ] = "auto"
    floor: Annotated[
        float, typer.Option(help="Least share of its channels that each layer keeps.")
    ] = 0.05
    round_to: Annotated[
        int, typer.Option(min=1, help="Keep multiples of so many channels, as 8 for hardware.")
    ] = 1

    def check(self, counts: dict[str, int] | None) -> None:
        """Refuse unknown names, with the nearest, and shares, before anything is read."""
        from empirical.pruning.choosing import ALLOCATIONS
        from empirical.pruning.criteria import criterion_names
        from empirical.pruning.pruner import requested
        from empirical.pruning.recovery import AUTO, RECOVERIES
        from theory.shared.validation import one_of, within

        shares = ("macs", "parameters", "latency", "accuracy_drop")
        given = {name: getattr(self, name) for name in shares}
        requested(**given)
        if counts and any(share is not None for share in given.values()):
            raise ValueError(
                "--layer and --keep say how many channels stay, and cannot go with a share. Leave "
                "one of the two out."
            )
        within("floor", self.floor, "[0, 1]")
        one_of("criterion", self.criterion, (AUTO, *criterion_names()))
        one_of("allocation", self.allocation, (AUTO, *ALLOCATIONS))
        one_of("recovery", self.recovery, (AUTO, *RECOVERIES))

    def of_forecast(self) -> dict[str, Any]:
        """Return the arguments of `empirical.forecast`."""
        given = [name for name in ("parameters", "latency") if getattr(self, name) is not None]
        resource = given[0] if given else "macs"
        names = ("criterion", "allocation", "recovery", "floor", "round_to")
        return {"resource": resource} | {name: getattr(self, name) for name in names}


@spread
def prune(
    source: NetworkSource,
    options: PruneOptions,
    out: Annotated[Path, typer.Option(help="Folder to write to.")] = Path("runs/prune"),
    skip: Annotated[
        list[str] | None, typer.Option(help="Keep this layer whole; may be repeated.")
    ] = None,
    layer: Annotated[
        list[str] | None, typer.Option(help="Thin out this layer, and those that --layer names.")
    ] = None,
    keep: Annotated[
        list[int] | None, typer.Option(help="Channels that it keeps, one for each --layer.")
    ] = None,
    forecast: Annotated[
        bool, typer.Option(help="Only foretell what pruning to a range of shares will cost.")
    ] = False,
    coupled: Annotated[bool, typer.Option(help="Also thin out residual streams.")] = True,
    images: Annotated[int, typer.Option(min=2, help="Training images to calibrate on.")] = 5000,
    target: Annotated[str, TARGET] = "logit_margin",
    export: Annotated[
        list[str] | None, typer.Option(help="onnx or torch; may be repeated.")
    ] = None,
) -> None:
    """Make one network smaller by removing channels, and save it.

    Accuracy and latency before and after are those on test images.
    """
    from empirical.measuring.targets import target_function
    from empirical.pruning.calibration import Calibration
    from empirical.pruning.criteria import criterion_rows
    from empirical.pruning.onnx_times import OnnxTimes
    from empirical.pruning.pruner import prune
    from empirical.pruning.recovery import RECOVERIES
    from theory.shared.files import check_writable
    from theory.shared.validation import one_of

    if options.criterion == "list":
        for row in criterion_rows():
            typer.echo("{:<30} {:<10} {}".format(*row))
        return
    counts = counts_of_layers(layer or (), keep or ())
    options.check(counts)
    target_function(target)
    exports = [one_of("--export", kind, EXPORTS) for kind in export or ()]
    if forecast and options.latency is not None and "onnx" in exports:
        raise ValueError(
            "--forecast foretells shares of PyTorch's time, and --export onnx asks for ONNX "
            "Runtime's. Leave one of the two out."
        )
    check_writable(out)
    trains = "finetune" in RECOVERIES.get(options.recovery, ())
    opened = source.open((None if trains else images, None))
    calibration = opened.drawn(opened.train, images)
    typer.echo(opened.accuracy_line(calibration))
    known = Calibration(
        opened.network,
        opened.loader(calibration),
        target=target,
        skip=tuple(skip or ()),
        coupled=coupled,
        training=opened.train if trains else None,
        seed=source.seed,
        device=opened.device,
    )
    if options.latency is not None and "onnx" in exports:
        known.times = OnnxTimes(known.graph, known.batch)
    if forecast:
        foretell(out, opened, known, source.seed, options)
        return
    pruned = prune(opened.network, known, seed=source.seed, counts=counts, **asdict(options))
    outcome = PruneOutcome.of(opened, pruned, onnx="onnx" in exports)
    record = {"model": source.model, "checkpoint": source.checkpoint, "images": len(calibration)}
    show(outcome, write(out, opened, outcome, exports, {**record, "seed": source.seed}))


def counts_of_layers(layers: Sequence[str], keep: Sequence[int]) -> dict[str, int] | None:
    """Layer -> channels to keep; None where no layer is named.

    >>> counts_of_layers(["conv1", "conv2"], [4, 8])
    {'conv1': 4, 'conv2': 8}
    """
    if len(layers) != len(keep):
        raise ValueError(
            f"--layer and --keep must go together; got {len(layers)} and {len(keep)} of them. Say "
            "--keep once for each --layer."
        )
    return dict(zip(layers, keep, strict=True)) or None


def foretell(
    folder: Path, opened: OpenNetwork, known: Calibration, seed: int, options: PruneOptions
) -> None:
    """Print the forecast; write ``forecast.csv``, ``forecast_layers.csv``, ``forecast.png``."""
    from empirical.pruning.forecasting import forecast
    from empirical.report.forecast_figure import forecast_figure
    from empirical.report.page import figure_bytes
    from theory.shared.files import write_bytes, write_table

    found = forecast(opened.network, known, seed=seed, **options.of_forecast())
    typer.echo(str(found))
    files = [folder / name for name in ("forecast.csv", "forecast_layers.csv", "forecast.png")]
    write_table(files[0], found.table)
    write_table(files[1], found.layers)
    write_bytes(files[2], figure_bytes(forecast_figure(found), "png"))
    typer.echo(f"Files: {', '.join(map(str, files))}")


@dataclass(frozen=True)
class PruneOutcome:
    """A pruned network with accuracy (test images) and latency before and after."""

    pruned: PrunedModel
    accuracy: tuple[Evaluation, Evaluation]
    agreement: float
    bytes: tuple[int, int]
    latency: tuple[Latency, Latency]
    onnx_latency: tuple[Latency, Latency] | None
    batch: torch.Tensor

    @classmethod
    def of(cls, opened: OpenNetwork, pruned: PrunedModel, onnx: bool = False) -> PruneOutcome:
        """Evaluate and time both networks on test images, if `onnx` in ONNX Runtime too."""
        from empirical.pruning.forecast_law import Answers
        from empirical.pruning.latency import latencies, onnx_latencies
        from empirical.reading.batches import batches
        from empirical.training.evaluation import evaluate

        held_out, both = opened.loader(opened.test), (opened.network, pruned.model)
        before, after = (evaluate(model, held_out, device=opened.device) for model in both)
        dense, smaller = (Answers.of(model, batches(held_out, opened.device)) for model in both)
        sizes = [sum(t.nbytes for t in model.state_dict().values()) for model in both]
        batch = next(iter(held_out))[0].to(opened.device)
        slow, fast = latencies(both, batch)
        agreement = dense.against(smaller)["agreement"]
        exported = None
        if onnx:
            slow_there, fast_there = onnx_latencies(both, batch)
            exported = slow_there, fast_there
        return cls(
            pruned, (before, after), agreement, (sizes[0], sizes[1]), (slow, fast), exported, batch
        )


def write(
    folder: Path,
    opened: OpenNetwork,
    outcome: PruneOutcome,
    exports: Sequence[str],
    record: dict[str, object],
) -> list[Path]:
    """Write the network with its `exports`, what went, and `record`.

    ``channels.csv`` holds every layer with its predicted and realized error, ``removed.csv`` every
    channel that went, both where the images suffice for them; ``prune.json`` the rest.
    """
    from empirical.pruning.export import export_onnx, export_program
    from empirical.pruning.input_moments import FewImagesError
    from empirical.pruning.pruned_file import save_pruned
    from theory.shared.files import write_json, write_table

    pruned = outcome.pruned
    files = [save_pruned(folder / "pruned.safetensors", pruned, spec=opened.spec)]
    for name in ("prune.json", "channels.csv", "removed.csv", *EXPORTS.values()):
        (folder / name).unlink(missing_ok=True)  # what was there is of another network
    for kind in exports:
        files.append(folder / EXPORTS[kind])
        save = export_onnx if kind == "onnx" else export_program
        save(files[-1], pruned.model, outcome.batch[:2])
    files += [folder / name for name in ("channels.csv", "prune.json")]
    channels = pruned.report.to_frame()
    try:
        errors = pruned.layers().drop(columns=["before", "after"])
        write_table(folder / "removed.csv", pruned.removed())
    except FewImagesError as reason:
        typer.echo(f"What went is not explained, and no layer's error is given: {reason}")
    else:
        channels = channels.merge(errors, on="layer")
        files.append(folder / "removed.csv")
    write_table(folder / "channels.csv", channels)
    write_json(
        folder / "prune.json",
        {
            "report": asdict(pruned.report),
            "accuracy": [asdict(found) for found in outcome.accuracy],
            "agreement": outcome.agreement,
            "bytes": outcome.bytes,
            "latency": [asdict(found) for found in outcome.latency],
            "onnx_latency": [asdict(found) for found in outcome.onnx_latency or ()],
            **record,
        },
    )
    return files


def show(outcome: PruneOutcome, files: Sequence[Path]) -> None:
    """Print what pruning cost and brought, and where the files lie."""
    from rich.console import Console
    from rich.table import Table

    report = outcome.pruned.report
    dense, smaller = outcome.accuracy
    table = Table(title=f"{report.criterion}, {report.allocation}, {report.recovery}")
    for column in ("", "before", "after"):
        table.add_column(column, justify="right" if column else "left")
    table.add_row("multiply-accumulates", f"{report.macs_before:,}", f"{report.macs_after:,}")
    table.add_row("parameters", f"{report.parameters_before:,}", f"{report.parameters_after:,}")
    table.add_row(
        f"accuracy on {dense.images} test images",
        f"{dense.accuracy:.2%} ± {dense.accuracy_se:.2%}",
        f"{smaller.accuracy:.2%} ± {smaller.accuracy_se:.2%}",
    )
    table.add_row("predictions as the dense network's", "100%", f"{outcome.agreement:.2%}")
    table.add_row("kilobytes", *(f"{size / 1000:,.0f}" for size in outcome.bytes))
    for where, pair in (("", outcome.latency), (" in ONNX Runtime", outcome.onnx_latency)):
        for slow, fast in [pair] if pair else []:
            table.add_row(
                f"ms for {slow.images} images{where}, median of {slow.repeats}",
                f"{1000 * slow.median:.2f}",
                f"{1000 * fast.median:.2f}",
            )
    console = Console()
    console.print(table)
    for slow, fast in [outcome.onnx_latency] if outcome.onnx_latency else []:
        if fast.median > slow.median:
            console.print(
                "The smaller network is slower in ONNX Runtime, whose convolutions take channels "
                "in blocks of 8 or 16: --round-to 16 keeps multiples of them.",
                soft_wrap=True,
            )
    asked = "" if report.requested is None else f", {report.requested:.2%} requested"
    if report.resource != "macs":
        asked = f" and {report.reached:.2%} of the {report.resource}{asked}"
    console.print(
        f"Kept {report.macs_share:.2%} of the multiply-accumulates{asked}. "
        f"Files: {', '.join(map(str, files))}",
        soft_wrap=True,
    )
