"""The folders that `scripts/evidence.py` left, read: whatever was finished, of all seeds."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from empirical.analysis.couplings import BETWEEN
from empirical.analysis.damage_factors import PARTS, analyze_factors
from empirical.analysis.flow import layer_flow, mean_flow
from empirical.analysis.lesions import analyze_lesions
from empirical.analysis.missing import NoDataError
from empirical.analysis.pruning import areas
from empirical.data.tables import read_table
from empirical.lesions.foretold import QUANTITY, Agreement
from empirical.measuring.table import AxisTable
from empirical.report.lesion_analysis import analysis_findings
from theory import spearman
from theory.rank_coupling import split_half
from theory.shared.findings import Finding
from theory.shared.foreign import read_arrays

TUNED = "finetune"
"""The recovery that trains on, with labels."""
LAW = ("damage_alone", "recovered")
"""What the law foretells of a channel."""
SCORES = ("input_capture", "task_information", "peer_predictability", "hull_score")
"""Single scores that are held against it."""


class NotRunError(FileNotFoundError):
    """What a claim needs has not been run."""


@dataclass(frozen=True)
class Networks:
    """The trained networks of one kind on one data set: the folder of their run."""

    data: str
    network: str
    folder: Path

    def seeds(self, file: str) -> dict[int, Path]:
        """Seed -> its file, of those that have it."""
        found = {int(p.name.split("-")[1]): p / file for p in self.folder.glob("seed-*")}
        return {seed: path for seed, path in sorted(found.items()) if path.exists()}

    def table(self, file: str) -> pd.DataFrame:
        """The tables of all seeds, one below the other."""
        frames = [read_table(path).assign(seed=s) for s, path in self.seeds(file).items()]
        if not frames:
            raise NotRunError(f"{self.folder} has no seed-*/{file}.")
        return pd.concat(frames, ignore_index=True)

    def arrays(self, file: str) -> dict[int, dict[str, Any]]:
        """Seed -> key -> array, of the last step."""
        found = {}
        for seed, path in self.seeds(f"digest/{file}.npz").items():
            every = read_arrays(path)
            last = max(int(key.split("/")[0]) for key in every if "/" in key)
            found[seed] = {
                key.partition("/")[2]: np.asarray(value, float)
                for key, value in every.items()
                if key.startswith(f"{last}/")
            }
        return found

    @property
    def epochs(self) -> float:
        """How long the networks were trained; NaN where none is whole."""
        ends = [
            json.loads(path.read_text(encoding="utf-8"))[-1]["epoch"]
            for path in self.seeds("train/history.json").values()
        ]
        return float(np.mean(ends)) if ends else np.nan

    @cached_property
    def couplings(self) -> pd.DataFrame:
        """Couplings of all pairs, over training."""
        return self.table("digest/couplings.csv")

    @property
    def foretold(self) -> dict[int, dict[str, Any]]:
        """Seed -> layer/quantity -> (C,), of the trained network; without a digest as measured."""
        found = self.arrays("scores")
        for seed, folder in self.seeds("axes").items():
            measured = sorted(folder.glob("step-*.npz"))
            if seed not in found and measured:
                table = AxisTable.load(measured[-1])
                found[seed] = {
                    f"{layer}/{name}": values
                    for layer in table.layers
                    for name, values in table.values(layer).items()
                }
        return found

    @cached_property
    def lesions(self) -> pd.DataFrame:
        """Damage of mean lesions with the channels' scores and foretold damages."""
        rows = self.table("lesions/lesions.csv")
        rows = rows[rows["kind"] == "mean"]
        foretold, frames = self.foretold, []
        for (seed, layer), own in rows.groupby(["seed", "layer"], sort=False):
            values = foretold.get(seed, {})
            at = own["channel"].to_numpy()
            more = {n: values[f"{layer}/{n}"][at] for n in LAW if f"{layer}/{n}" in values}
            frames.append(own.assign(**more))
        return pd.concat(frames, ignore_index=True)

    @cached_property
    def factors(self) -> pd.DataFrame:
        """(seed, part) shares of the spread of log damage beside all peers, of both factors."""
        rows = {}
        for seed, folder in self.seeds("axes").items():
            measured = sorted(folder.glob("step-*.npz"))
            lesions, replaced = (
                folder.parent / "lesions" / f"{name}.csv" for name in ("lesions", "replacements")
            )
            if measured and lesions.exists() and replaced.exists():
                foretold = AxisTable.load(measured[-1]).to_frame()
                rows[seed] = factor_shares(foretold, read_table(lesions), read_table(replaced))
        if not rows:
            raise NotRunError(f"{self.folder} has no replacements beside foretold damages.")
        return pd.DataFrame(rows).T

    @property
    def lesioned_reliability(self) -> pd.DataFrame:
        """Split-half reliability of both axes over the channels lesioned, a row a layer."""
        by_layer = self.lesions.groupby(["seed", "layer"])
        halves = {name: [f"{name}_half{h}" for h in (0, 1)] for name in BETWEEN.names}
        found = {
            name: by_layer[columns].apply(lambda own: float(split_half(*own.to_numpy().T)))
            for name, columns in halves.items()
        }
        return pd.DataFrame(found)

    @cached_property
    def pruned(self) -> pd.DataFrame:
        """Every finished cell of pruning, line by line, whether or not the rest was finished."""
        rows = []
        for folder in ("pruning", "refit", "tune"):
            for path in sorted(self.folder.glob(f"seed-*/{folder}/*.jsonl")):
                seed = int(path.parent.parent.name.split("-")[1])
                for line in path.read_text(encoding="utf-8").splitlines():
                    kept = json.loads(line) if line.endswith("}") else {}
                    if "recovery" in kept.get("cell", {}):
                        rows.append(kept["cell"] | kept["result"] | {"seed": seed})
        if not rows:
            raise NotRunError(f"{self.folder} has no pruned networks.")
        table = pd.DataFrame(rows).assign(network=self.network)
        keys = ["seed", "criterion", "allocation", "recovery", "share", "draw"]
        return table.drop_duplicates(keys, keep="last").dropna(subset=["accuracy"])

    @property
    def has_pruned(self) -> bool:
        """Whether any cell of pruning was finished."""
        return any(self.folder.glob("seed-*/pruning/*.jsonl"))

    @cached_property
    def areas(self) -> pd.DataFrame:
        """Mean accuracy over the shares, per arm; fine-tuning has shares of its own."""
        parts = self.pruned.groupby(self.pruned["recovery"] == TUNED)
        return pd.concat([areas(rows) for _, rows in parts], ignore_index=True)

    @cached_property
    def structure(self) -> pd.DataFrame:
        """Triples and communities of the trained networks."""
        rows = self.table("digest/structure.csv")
        return rows[rows["step"] == rows["step"].max()]

    @cached_property
    def analysis(self) -> tuple[int, list[Finding]]:
        """Networks with a layer that can be judged, and what explains the damage of lesions there.

        The layers of all networks are strata. No findings where none has enough channels of
        reliable scores.
        """
        try:
            found = analyze_lesions(self.lesions, damage="divergence")
        except NoDataError:
            return 0, []
        return found.settings["networks"], analysis_findings(found)

    @cached_property
    def flow(self) -> pd.DataFrame:
        """(pair of axes, seed) flow beyond exchanged scores, mean of links."""
        every, frames = self.arrays("scores"), []
        for seed, links in self.arrays("links").items():
            scores: dict[str, dict[str, Any]] = {}
            for key, value in every[seed].items():
                layer, _, name = key.rpartition("/")
                scores.setdefault(layer, {})[name] = value
            pairs = {tuple(key.split(">")): value for key, value in links.items()}
            frames.append(layer_flow(scores, pairs, seed=seed).assign(seed=seed))
        if not frames:
            raise NotRunError(f"{self.folder} has no links.")
        table = mean_flow(pd.concat(frames)).set_index(["seed", "one", "other"])["beyond"]
        return pd.DataFrame(table.unstack("seed"))

    @cached_property
    def damage_ranks(self) -> pd.DataFrame:
        """(seed, score) rank correlation with measured damage, mean of layers; of scores |mean|."""
        if LAW[0] not in self.lesions:
            raise NotRunError(f"{self.folder} has no foretold damage beside its lesions.")
        rows = {}
        for seed, own in self.lesions.dropna(subset=[LAW[0]]).groupby("seed"):
            layers = [group for _, group in own.groupby("layer") if len(group) > 3]
            rows[seed] = {
                name: np.nanmean([spearman(g[name], g["divergence"]) for g in layers])
                for name in (LAW[0], *SCORES)
            }
        table = pd.DataFrame(rows).T
        return table.assign(**{name: table[name].abs() for name in SCORES})


def factor_shares(
    foretold: pd.DataFrame, lesions: pd.DataFrame, replaced: pd.DataFrame
) -> dict[str, float]:
    """How the spread of log damage divides in one network, its layers added up.

    Parameters
    ----------
    foretold : of `AxisTable.to_frame`, with damages
    lesions, replaced : the tables of the run's lesions and of its replacements
    """
    keys, both = ["layer", "channel"], []
    for kind, name in QUANTITY.items():
        rows = pd.concat([lesions, replaced])
        names = {"divergence": "measured", "divergence_se": "measured_se"}
        rows = rows.loc[rows["kind"] == kind, [*keys, *names]].rename(columns=names)
        law = foretold[[*keys, name, f"{name}_se"]]
        law = law.rename(columns={name: "foretold", f"{name}_se": "foretold_se"})
        both.append(rows.merge(law, on=keys).assign(kind=kind))
    scores = lesions.loc[lesions["kind"] == "mean", [*keys, "family"]]
    law = Agreement(pd.concat(both), pd.DataFrame())
    pooled = analyze_factors(law, scores, tested=(), draws=20).pooled.iloc[0]
    return {name: float(pooled[name]) for name in (*PARTS, "both")}
