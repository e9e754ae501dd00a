"""`twoaxis compare`: two measured networks, channel by channel."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from empirical.commands.options import TARGET, spread
from empirical.commands.source import NetworkSource

if TYPE_CHECKING:
    from empirical.analysis.matching import Matching
    from empirical.commands.source import OpenNetwork
    from empirical.data.images import ImageSet
    from empirical.measuring.table import AxisTable

BY = ("index", "moments", "activations")


@dataclass(frozen=True, kw_only=True)
class CompareOptions:
    """How counterparts are found, and on what checkpoints are measured."""

    match: Annotated[
        str | None,
        typer.Option(
            help="index, for checkpoints of one training; activations, for separate trainings, "
            "permuted copies and pruned networks (needs checkpoints); moments, where only tables "
            "are left. By default index for tables and for checkpoints of one training as far as "
            "the files say so, else activations."
        ),
    ] = None
    images: Annotated[
        int, typer.Option(min=2, help="Training images that checkpoints are measured on.")
    ] = 2000
    target: Annotated[str, TARGET] = "logit_margin"
    out: Annotated[
        Path | None, typer.Option(help="Also write every channel's changes to this CSV file.")
    ] = None
    page: Annotated[
        Path | None,
        typer.Option(help="Also write this HTML file: a map in which channels move."),
    ] = None


@spread
def compare(
    source: NetworkSource,
    options: CompareOptions,
    networks: Annotated[
        list[Path],
        typer.Argument(
            help="Two measurements (axes.npz of `twoaxis measure`) or two checkpoints, which are "
            "then measured on --data. Further ones of the same training may stand between them: "
            "the page shows every channel's way through them."
        ),
    ],
) -> None:
    """Say which channels changed between two networks, and how."""
    from empirical.analysis.comparing import compare as compared
    from theory.shared.files import check_writable, write_table
    from theory.shared.validation import one_of

    if len(networks) < 2:
        raise ValueError(f"networks must be two or more; got {len(networks)}. Name a second one.")
    if options.match is not None:
        one_of("--match", options.match, BY)
    for path in (options.out, options.page):
        if path is not None:
            check_writable(path.parent)
    if source.checkpoint is not None:
        raise ValueError(
            f"--checkpoint must be left out here; got {str(source.checkpoint)!r}. Name both "
            "checkpoints as arguments."
        )
    tables, match = _read(source, options, networks)
    if len(tables) > 2 and match != "index":
        raise ValueError(
            f"networks between the first and the last must be of the same training; {len(networks)}"
            " are named, and they are not matched by index. Name two, or pass --match index."
        )
    found = compared(tables[0], tables[-1], match=match)
    typer.echo(str(found))
    if options.out is not None:
        write_table(options.out, found.to_frame())
        typer.echo(f"Changes: {options.out.resolve()}")
    if options.page is not None:
        from empirical.report.comparison_map import write_comparison

        names = _names(networks)
        along = dict(zip(names[1:-1], tables[1:-1], strict=True))
        write_comparison(
            options.page,
            found,
            along=along,
            names=(names[0], names[-1]),
            title=f"{names[0]} and {names[-1]}, channel by channel",
        )
        typer.echo(f"Page: {options.page.resolve()}")


def _names(paths: list[Path]) -> list[str]:
    """Names that tell the files apart: their stems, or else their folders'.

    >>> _names([Path("a/axes.npz"), Path("b/axes.npz")])
    ['a', 'b']
    >>> _names([Path("run/step-1.npz"), Path("run/step-2.npz")])
    ['step-1', 'step-2']
    """
    ways = (
        [path.stem for path in paths],
        [path.resolve().parent.name for path in paths],
        [f"{number}: {path}" for number, path in enumerate(paths, start=1)],
    )
    return next(names for names in ways if len(set(names)) == len(names))


def _read(
    source: NetworkSource, options: CompareOptions, paths: list[Path]
) -> tuple[list[AxisTable], str | Matching]:
    """The tables, and what counterparts are matched by."""
    from empirical.analysis.matching import match_channels
    from empirical.measuring.table import AxisTable

    saved = [path.suffix == ".npz" for path in paths]
    if all(saved):
        if options.match == "activations":
            raise ValueError(
                "--match activations needs the networks themselves; tables hold no activations. "
                "Name checkpoints in the place of axes.npz."
            )
        return [AxisTable.load(path) for path in paths], options.match or "index"
    if any(saved):
        raise ValueError(
            f"networks must be all tables or all checkpoints; got {', '.join(map(str, paths))}."
        )
    opened, saying = _opened(source, options, paths)
    images = saying.drawn(saying.train, options.images)
    for one in opened:
        typer.echo(one.accuracy_line(images))
    tables = [_measured(one, images, options) for one in opened]
    match = options.match or ("index" if _of_one_training(opened) else "activations")
    if match != "activations":
        return tables, match
    first, second = opened[0], opened[-1]
    return tables, match_channels(
        first.network, second.network, first.loader(images), seed=source.seed
    )


def _opened(
    source: NetworkSource, options: CompareOptions, paths: list[Path]
) -> tuple[list[OpenNetwork], OpenNetwork]:
    """Every network, and the one whose images all are to see: the first that says how to normalize.

    Checkpoints that say it differently are refused.
    """
    opened = [replace(source, checkpoint=path).open((options.images, 1)) for path in paths]
    saying = [one for one in opened if one.info is not None] or opened[:1]
    first = saying[0].train
    for one in saying:
        if (one.train.mean, one.train.std) != (first.mean, first.std):
            raise ValueError(
                f"checkpoints must see the same images; one normalizes by mean {first.mean}, "
                f"{one.source.checkpoint} by {one.train.mean}. Pass --mean and --std for all."
            )
    return opened, saying[0]


def _of_one_training(opened: list[OpenNetwork]) -> bool:
    """Whether the checkpoints themselves say that they are of one training."""
    said = {(one.info.seed, one.info.spec, one.info.data) if one.info else None for one in opened}
    return len(said) == 1 and None not in said


def _measured(opened: OpenNetwork, images: ImageSet, options: CompareOptions) -> AxisTable:
    from empirical.measuring.measurement import measure

    return measure(
        opened.network,
        opened.loader(images),
        target=options.target,
        damage=True,
        seed=opened.source.seed,
        device=opened.device,
    )
