"""`twoaxis lesion`: one network, lesioned and replaced channel by channel, with its report."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from empirical.commands.options import spread
from empirical.commands.shards import SHARD, Shard
from empirical.commands.source import NetworkSource
from empirical.commands.tables import write_channels
from empirical.commands.terminal import Progress, print_findings, progress_bar

if TYPE_CHECKING:
    from torch import nn

    from empirical.analysis.pairs import PairAnalysis
    from empirical.commands.source import OpenNetwork
    from empirical.data.images import ImageLoader, ImageSet
    from empirical.lesions.replacement_table import ReplacementTable
    from empirical.lesions.table import LesionTable
    from empirical.measuring.table import AxisTable
    from empirical.report.page import Section

WIDE = 8
"""Channels of a layer from which pairs are lesioned."""


@dataclass(frozen=True, kw_only=True)
class LesionOptions:
    """On how many images, which lesions and replacements, and how they are analysed."""

    images: Annotated[int, typer.Option(min=2, help="Number of test images.")] = 1000
    calibration_images: Annotated[
        int, typer.Option(min=2, help="Number of training images that scores are measured on.")
    ] = 5000
    kind: Annotated[
        list[str] | None, typer.Option(help="mean, zero or resample; may be repeated.")
    ] = None
    peers: Annotated[
        list[str] | None,
        typer.Option(help="all, hull, overlap, random or none; may be repeated."),
    ] = None
    draws: Annotated[int, typer.Option(min=1, help="Draws of random peers.")] = 3
    pairs: Annotated[int, typer.Option(min=0, help="Pairs lesioned in each layer; 0: none.")] = 12
    layer: Annotated[
        list[str] | None, typer.Option(help="Lesion this layer only; may be repeated.")
    ] = None
    permutations: Annotated[int, typer.Option(min=99, help="Of the control.")] = 200
    memory: Annotated[
        float | None,
        typer.Option(
            min=0,
            help="GiB that activations may take.",
            show_default="2, or half of what is free on a GPU",
        ),
    ] = None
    axes: Annotated[
        Path | None,
        typer.Option(help="axes.npz of `twoaxis measure` on this network, not to measure again."),
    ] = None
    shard: Annotated[str | None, SHARD] = None

    @property
    def kinds(self) -> list[str]:
        """The lesions, the mean's always among them."""
        return list(dict.fromkeys(["mean", *(self.kind or ["zero"])]))

    @property
    def peer_sets(self) -> list[str]:
        """The sets of peers; without any, nothing is replaced."""
        return [] if set(self.peers or ()) == {"none"} else self.peers or ["all", "hull", "random"]

    def check(self) -> None:
        """Refuse unknown names, with the nearest, before anything is read."""
        from empirical.lesions.lesioning import KINDS
        from theory.peer_regression import PEERS
        from theory.shared.validation import one_of, within

        if self.memory is not None:
            within("--memory", self.memory, "[0, 1e6]")
        for kind in self.kinds:
            one_of("--kind", kind, KINDS)
        for name in self.peer_sets:
            one_of("--peers", name, (*PEERS, "none"))
        if "none" in self.peer_sets:
            raise ValueError(
                f"--peers must be none alone, or sets of peers; got {', '.join(self.peer_sets)}. "
                "Leave out --peers none."
            )


@spread
def lesion(
    source: NetworkSource,
    options: LesionOptions,
    out: Annotated[Path, typer.Option(help="Folder to write tables and report.html to.")] = Path(
        "runs/lesion"
    ),
) -> None:
    """Lesion and replace every channel; say what explains the damage."""
    from empirical.report.page import write_report
    from theory.shared.files import check_writable

    options.check()
    share = None if options.shard is None else Shard.read(options.shard)
    check_writable(out)
    with progress_bar() as progress:
        opened = source.open((options.calibration_images, options.images))
        table = _measured(opened, options)
        held_out = opened.drawn(opened.test, options.images)
        told: dict[str, Any] = {}
        if share is not None:
            held_out, _, told = share.of(held_out, source.batch_size)
        typer.echo(opened.accuracy_line(held_out))
        experiment = LesionExperiment(opened, held_out, table, options, out, progress)
        if share is not None:
            path = out / share.name("lesions")
            lesioned = experiment.lesioned()
            dataclasses.replace(lesioned, settings={**lesioned.settings, **told}).save(path)
            typer.echo(f"Share {options.shard} of the images: {path.resolve()}")
            return
        write_channels(out, table)
        table.save(out / "axes.npz")
        sections, accuracy = experiment.sections()
        write_report(
            out,
            "Lesions and peer replacement",
            f"{opened.name} on {opened.test.name}: every channel of {len(table.layers)} layers, "
            f"one at a time, on {len(held_out)} test images; scores from "
            f"{table.settings['n_images']} training images. Accuracy of the intact network on "
            f"these test images: {accuracy:.1%}; {opened.weights}.",
            sections,
        )
    print_findings(sections, out / "report.html")


def _measured(opened: OpenNetwork, options: LesionOptions) -> AxisTable:
    """What `twoaxis measure` found, or a measurement of the calibration images."""
    from empirical.measuring.measurement import measure
    from empirical.measuring.table import AxisTable

    if options.axes is not None:
        return AxisTable.load(options.axes)
    return measure(
        opened.network,
        opened.loader(opened.drawn(opened.train, options.calibration_images)),
        layers=options.layer or None,
        damage=True,
        seed=opened.source.seed,
        device=opened.device,
    )


@dataclass(frozen=True)
class LesionExperiment:
    """Lesions, replacements and pairs of one measured network; tables go to the folder `out`."""

    opened: OpenNetwork
    held_out: ImageSet
    table: AxisTable
    options: LesionOptions
    out: Path
    progress: Progress

    def sections(self) -> tuple[list[Section], float]:
        """Return the report's chapters, and the accuracy of the intact network."""
        from empirical.analysis.damage_factors import SCORES, analyze_factors
        from empirical.analysis.lesions import analyze_lesions
        from empirical.analysis.reliability import channel_scores
        from empirical.lesions.foretold import agreement
        from empirical.measuring.damage_table import ALONE, RECOVERED
        from empirical.report.damage import damage_section
        from empirical.report.damage_factors import TITLE as FACTORS
        from empirical.report.damage_factors import damage_factors_section
        from empirical.report.lesion_analysis import TITLE, lesion_analysis_section
        from empirical.report.map_page import map_section
        from empirical.report.page import chapter
        from empirical.report.replacement import replacement_section
        from theory.shared.files import write_table

        seed, permutations = self.opened.source.seed, self.options.permutations
        damages = self.lesioned()
        scores = channel_scores(self.table)
        frame = damages.to_frame().merge(scores, on=["layer", "channel"])
        write_table(self.out / "lesions.csv", frame)
        replaced, pairs = self._replaced(), self._pairs()

        def explained() -> Section:
            found = analyze_lesions(frame, permutations=permutations, seed=seed)
            return lesion_analysis_section(found, pairs)

        chapters = [map_section(self.table, lesions=[t for t in (damages, replaced) if t])]
        if self.table.damage:
            law = agreement(replaced or damages, self.table.foretold, seed=seed)

            def divided() -> Section:
                known = channel_scores(self.table, [*SCORES, ALONE, RECOVERED])
                return damage_factors_section(analyze_factors(law, known, seed=seed))

            chapters.append(damage_section(law, self.table.settings["n_images"]))
            chapters.append(chapter(FACTORS, divided))
        chapters.append(chapter(TITLE, explained))
        if replaced is not None:
            chapters.append(replacement_section(replaced))
        return chapters, float(damages.dense["accuracy"].mean())

    def lesioned(self) -> LesionTable:
        """Every channel silenced on its own, on the held-out images."""
        from empirical.lesions.lesioning import lesion

        return lesion(
            *self._subject(),
            calibration=self.table,
            kinds=self.options.kinds,
            **self._how("lesions"),
        )

    def _replaced(self) -> ReplacementTable | None:
        from empirical.lesions.replacement import replace
        from theory.shared.files import write_table

        if not self.options.peer_sets:
            return None
        replaced = replace(
            *self._subject(),
            self.table,
            peers=self.options.peer_sets,
            draws=self.options.draws,
            **self._how("replacements"),
        )
        write_table(self.out / "replacements.csv", replaced.to_frame())
        return replaced

    def _pairs(self) -> PairAnalysis | None:
        from empirical.analysis.pairs import analyze_pairs
        from empirical.lesions.pairs import lesion_pairs

        names = [n for n in self.table.layers if len(self.table[n].signal_power) >= WIDE]
        if not self.options.pairs or not names:
            return None
        lesioned = lesion_pairs(
            *self._subject(),
            self.table,
            pairs=self.options.pairs,
            **{**self._how("pairs"), "layers": names},
        )
        return analyze_pairs(lesioned)

    def _subject(self) -> tuple[nn.Module, ImageLoader]:
        return self.opened.network, self.opened.loader(self.held_out)

    def _how(self, what: str) -> dict[str, Any]:
        """What lesions, replacements and pairs have in common."""

        def share(done: int, total: int) -> None:
            self.progress(what, done / max(total, 1))

        return {
            "layers": self.options.layer or self.table.layers,
            "memory": None if self.options.memory is None else int(self.options.memory * 2**30),
            "seed": self.opened.source.seed,
            "progress": share,
        }
