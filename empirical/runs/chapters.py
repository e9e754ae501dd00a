"""The report of a run: what its stages left, read, analysed, worded and drawn."""

from __future__ import annotations

from collections.abc import Mapping

import pandas as pd

from empirical.analysis.couplings import training_couplings
from empirical.analysis.flow import channel_links, layer_flow
from empirical.analysis.lesions import analyze_lesions
from empirical.analysis.missing import NoDataError
from empirical.data.images import image_loader
from empirical.data.tables import read_table
from empirical.measuring.table import AxisTable
from empirical.report import (
    coupling,
    factorial,
    flow,
    gradients,
    grouping,
    intervention,
    lesion,
    lesion_analysis,
    map_page,
    robustness,
    structure,
    training,
)
from empirical.report.page import Section, chapter
from empirical.runs.steps import SCALAR_TARGETS, RunStages
from empirical.training.checkpoints import load_model
from theory.shared.foreign import parse_json

Tables = Mapping[tuple[int, int], AxisTable]
"""(seed, step) -> measurement."""


def read_tables(stages: RunStages) -> Tables:
    """Return the measurement of every seed and step."""
    return {
        (seed, step): AxisTable.load(stages.table_path(seed, step))
        for seed in stages.config.seeds
        for step in stages.steps
    }


def read_accuracy(stages: RunStages) -> pd.DataFrame:
    """Return one row per seed and step: loss and accuracy on the report images."""
    return pd.DataFrame(
        parse_json(path.read_bytes(), f"{path} (remove it, to have it made again)")
        for seed in stages.config.seeds
        for step in stages.steps
        for path in [stages.accuracy_path(seed, step)]
    )


def run_sections(
    stages: RunStages, tables: Tables, couplings: pd.DataFrame, accuracy: pd.DataFrame
) -> list[Section]:
    """Return the report's chapters, in order."""
    last = stages.steps[-1]
    trained = {seed: tables[seed, last] for seed in stages.config.seeds}
    varied = _over_seeds(stages, "variations.csv"), _over_seeds(stages, "sample_counts.csv")
    lesioned = stages.lesions() if stages.config.lesion.enabled else []
    mapped = []
    if stages.config.measure.map:
        table, plan = stages.channel_map()
        about = f"Seed {stages.config.seeds[0]}, step {last}: {subject(stages)}."
        lost = [frame for own in lesioned[:1] for frame in (own.lesions, own.recovered)]
        mapped.append(map_page.map_section(table, plan=plan, lesions=lost, about=about))
    sections = [
        *mapped,
        training.training_section(
            accuracy, _histories(stages), stages.split, stages.spec, stages.config.training
        ),
        chapter(
            coupling.TITLE, lambda: coupling.coupling_section(tables, couplings, subject(stages))
        ),
        chapter(grouping.TITLE, lambda: grouping.grouping_section(trained)),
        chapter(structure.TITLE, lambda: structure.structure_section(trained)),
        chapter(flow.TITLE, lambda: flow.flow_section(_flows(stages, trained))),
        chapter(robustness.TITLE, lambda: robustness.robustness_section(*varied)),
    ]
    if stages.config.measure.damage:
        permutations = stages.config.measure.permutations
        found = intervention.intervention_section(
            tables, subject(stages), permutations=permutations
        )
        sections.append(found)
    if stages.config.measure.target in SCALAR_TARGETS:
        sections.append(
            chapter(gradients.TITLE, lambda: gradients.gradients_section(_gradients(stages)))
        )
    if stages.config.lesion.enabled:
        lesions, recovered = (
            pd.concat([getattr(result, name) for result in lesioned], ignore_index=True)
            for name in ("lesions", "recovered")
        )
        sections += [
            chapter(lesion.TITLE, lambda: lesion.lesion_section(lesions, recovered)),
            chapter(
                lesion_analysis.TITLE,
                lambda: lesion_analysis.lesion_analysis_section(analyze_lesions(lesions)),
            ),
        ]
    if stages.config.pruning.enabled:
        pruned = stages.pruning()
        sections.append(
            chapter(
                factorial.TITLE, lambda: factorial.factorial_section(pruned.rows, pruned.scores)
            )
        )
    return sections


def run_couplings(stages: RunStages, tables: Tables) -> pd.DataFrame:
    """Return the coupling of every pair of quantities, per seed, step and layer."""
    return training_couplings(tables, permutations=stages.config.measure.permutations)


def title(stages: RunStages) -> str:
    """Return the report's title: the configuration's, or network and data."""
    data = stages.split.fit.name.removesuffix("/fit")
    return stages.config.title or f"{stages.spec.name} on {data}"


def lead(stages: RunStages) -> str:
    """Return the sentence under the title."""
    return (
        "What a channel says about the task is one question; whether its peers could replace it is "
        f"another. This page asks both of {len(stages.config.seeds)} trained networks, at "
        f"{len(stages.steps)} moments of their training."
    )


def subject(stages: RunStages) -> str:
    """Return which network on which images with which target and sampling."""
    options, images = stages.config.measure, stages.split.calibration
    sampling = (
        f"{options.positions} random positions per image"
        if options.sampling == "positions"
        else "means over each map"
    )
    return (
        f"{stages.spec.name}, width {stages.spec.width:g}, on {len(images)} images of "
        f"{images.name}; target: {options.target.replace('_', ' ')}; {sampling}, before the norm"
    )


def _histories(stages: RunStages) -> pd.DataFrame:
    return pd.concat(
        [
            pd.read_json(stages.folder(seed) / "train" / "history.json").assign(seed=seed)
            for seed in stages.config.seeds
        ],
        ignore_index=True,
    )


def _gradients(stages: RunStages) -> pd.DataFrame:
    ends = dict.fromkeys((stages.steps[0], stages.steps[-1]))
    return pd.concat(
        [
            read_table(stages.gradients_path(seed, step)).assign(seed=seed, step=step)
            for seed in stages.config.seeds
            for step in ends
        ],
        ignore_index=True,
    )


def _flows(stages: RunStages, trained: Mapping[int, AxisTable]) -> pd.DataFrame:
    """Of each trained network, how both axes go from layer to layer."""
    example, _ = next(iter(image_loader(stages.split.calibration, batch_size=1)))
    found = []
    for seed, table in trained.items():
        model, _ = load_model(stages.checkpoint(seed, stages.steps[-1]), stages.spec)
        scores = {layer: table.values(layer) for layer in table.layers}
        try:
            links = channel_links(model, example)
        except ValueError as reason:  # it cannot be traced
            raise NoDataError(str(reason)) from reason
        found.append(layer_flow(scores, links, seed=seed).assign(seed=seed))
    return pd.concat(found, ignore_index=True)


def _over_seeds(stages: RunStages, name: str) -> pd.DataFrame:
    return pd.concat(
        [
            read_table(stages.robustness_folder(seed) / name).assign(seed=seed)
            for seed in stages.config.seeds
        ],
        ignore_index=True,
    )
