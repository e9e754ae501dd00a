"""From predicted damage to divergence, agreement and accuracy, by what was measured at some shares.

See `forecast`; everything is in nats, and for the images whose logits are given.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from empirical.pruning.margins import Margins
from empirical.reading.batches import batches
from empirical.reading.hooks import evaluating
from empirical.reading.outputs import answered, checked_logits, checked_outputs, divergences

Float = NDArray[np.float64]

NORMAL = 1.96
"""Standard errors of a 95 % interval."""

ROUNDING = 1e-10
"""Nats below which a measured divergence is rounding, and says nothing of the factor."""


@dataclass(frozen=True, eq=False)
class Answers:
    """Logits (n, K) of a network on images, and their classes (n,) where there are any."""

    logits: Tensor
    labels: Tensor | None

    @classmethod
    def of(cls, model: nn.Module, held: Iterable[object], *, classes: bool = True) -> Answers:
        """Let a network say what it sees; with `classes` False labels are not looked at."""
        logits, labels = [], []
        with evaluating(model):
            for batch in batches(held, classes=False):
                found = checked_outputs(answered(model, batch.images), len(batch.images))
                if found.ndim == 2 and found.shape[1] > 1:
                    largest = batch.largest_label if classes else None
                    found = checked_logits(found, len(batch.images), largest)
                logits.append(found.double().cpu())
                labels.append(batch.labels.cpu())
                classes &= batch.largest_label is not None
        return cls(torch.cat(logits), torch.cat(labels) if classes else None)

    @classmethod
    def of_dense(cls, model: nn.Module, held: Iterable[object], *, classes: bool = True) -> Answers:
        """Those that others are compared with; refused where one of them is NaN."""
        found = cls.of(model, held, classes=classes)
        wrong = found.logits.isnan().reshape(len(found.logits), -1).any(1)
        if wrong.any():
            raise ValueError(
                f"model must return numbers; of {len(wrong)} calibration images it returns NaN "
                f"for {int(wrong.sum())}. Look for it in weights, statistics of batch norms, and "
                "images."
            )
        return found

    @property
    def accuracy(self) -> float:
        """Share of images whose largest logit is their class's."""
        if self.labels is None:
            return float("nan")
        return float((self.logits.argmax(1) == self.labels).double().mean())

    @property
    def classes(self) -> bool:
        """Whether the outputs are logits of at least 2 classes, a row per image."""
        return self.logits.ndim == 2 and self.logits.shape[1] > 1

    def distance(self, other: Answers) -> float:
        """Mean divergence of predictions; mean squared difference of outputs of other forms."""
        if self.classes:
            return self.against(other)["kl"]
        return float((self.logits - other.logits).square().mean())

    def against(self, other: Answers) -> dict[str, float]:
        """What `other` says instead: mean divergence with its standard error, agreement."""
        own, its = self.logits.log_softmax(1), other.logits.log_softmax(1)
        each = divergences(own, its)
        same = self.logits.argmax(1) == other.logits.argmax(1)
        return {
            "kl": float(each.mean()),
            "kl_se": float(each.std() / len(each) ** 0.5) if len(each) > 1 else float("nan"),
            "agreement": float(same.double().mean()),
            "accuracy": other.accuracy,
        }


@dataclass(frozen=True, eq=False)
class Law:
    """From damage to divergence, agreement and accuracy: what was measured, and the margins.

    `measured` is sorted by damage, without shares that cost nothing; `factor` log(kl / damage) and
    `widening` log of the noise that its agreement asks for over that which its divergence does, at
    each measured share.
    """

    measured: pd.DataFrame
    factor: Float
    widening: Float
    margins: Margins
    dense: Answers

    @classmethod
    def of(cls, measured: pd.DataFrame, dense: Answers) -> Law:
        """Take it from the rows that were measured, of which there may be none."""
        margins = Margins.of(dense.logits, dense.labels)
        telling = measured[(measured[["kl", "damage"]] > ROUNDING).all(axis=1)]
        rows = telling.sort_values("damage").reset_index(drop=True)
        if not len(rows):
            return cls(rows, np.zeros(0), np.zeros(0), margins, dense)
        tiny = np.finfo(float).tiny
        kl, damage = (rows[c].to_numpy(float) for c in ("kl", "damage"))
        most = 1 - 0.5 / len(dense.logits)  # that no image changed its answer is not never
        asked = margins.scale_of_agreement(np.minimum(rows["agreement"].to_numpy(float), most))
        given = margins.scale(kl)
        widening = np.log(np.maximum(asked, tiny) / np.maximum(given, tiny))
        return cls(rows, np.log(kl / damage), widening, margins, dense)

    def table(self, shares: Sequence[float], damages: Sequence[float]) -> pd.DataFrame:
        """One row per share, falling: see `Forecast.table`."""
        damage = np.array(damages)
        kl, spread = self._divergence(damage)
        rows = {"share": np.array(shares), "damage": damage, "kl": kl}
        rows["kl_low"] = kl * np.exp(-NORMAL * spread)
        high = kl * np.exp(NORMAL * spread)
        rows["kl_high"] = np.minimum.accumulate(high[::-1])[::-1]  # fewer channels never do better
        middle, least, most = (
            self._answers(rows[name], damage) for name in ("kl", "kl_high", "kl_low")
        )
        # images that change their answer, of a binomial's number
        error = NORMAL * np.sqrt(np.maximum(1 - middle[0], 0) / len(self.dense.logits))
        for name, m, lo, hi in zip(("agreement", "accuracy"), middle, least, most, strict=True):
            rows[name] = m
            rows[f"{name}_low"] = np.maximum(m - np.hypot(m - lo, error), 0)
            rows[f"{name}_high"] = np.minimum(m + np.hypot(hi - m, error), 1)
        dense = self.dense.accuracy
        rows["drop"] = dense - rows["accuracy"]
        rows["drop_low"] = dense - rows["accuracy_high"]
        rows["drop_high"] = dense - rows["accuracy_low"]
        return pd.DataFrame(rows)

    def _answers(self, kl: Float, damage: Float) -> tuple[Float, Float]:
        """Agreement and accuracy at each divergence (nats)."""
        widening = np.exp(self._between(self.widening, damage)[0])
        agreement, accuracy = self.margins.at(self.margins.scale(kl) * widening)
        return agreement, self.dense.accuracy - (self.dense.accuracy - accuracy) * self.steeper

    @cached_property
    def steeper(self) -> float:
        """Measured drops of accuracy over those that the measured agreements foretell.

        Of the ratio's 95 % interval the value nearest to 1: a few hundred images seldom say more.
        """
        agreement = self.measured["agreement"].to_numpy(float)
        scale = self.margins.scale_of_agreement(agreement)
        foretold = float((self.dense.accuracy - self.margins.at(scale)[1]).sum())
        if not foretold > 0:
            return 1.0
        drop = float((self.dense.accuracy - self.measured["accuracy"].to_numpy(float)).sum())
        changed = np.sqrt((1 - agreement) / len(self.dense.logits)).sum()
        ratio, error = drop / foretold, NORMAL * float(changed) / foretold
        return float(np.clip(1.0, ratio - error, ratio + error))

    def _divergence(self, damage: Float) -> tuple[Float, Float]:
        """Divergence (nats) at each damage, and the standard error of its logarithm."""
        factor, slack = self._between(self.factor, damage)
        if not len(self.factor):
            return damage, np.where(damage > 0, np.nan, 0.0)
        relative = (self.measured["kl_se"] / self.measured["kl"]).to_numpy(float)
        sampling = np.interp(_log(damage), _log(self.measured["damage"]), relative)
        spread = np.hypot(slack, sampling)
        return damage * np.exp(factor), np.where(damage > 0, spread, 0.0)

    def _between(self, values: Float, damage: Float) -> tuple[Float, Float]:
        """A quantity at each damage, linear in log damage, and its change from the nearest known.

        Outside of what was measured it goes on with the same slope, at most 1 either way: of the
        factor, a divergence that stays as it is or goes by the square. Known at one damage only,
        it is the same everywhere.
        """
        if not len(values):
            return np.zeros_like(damage), np.zeros_like(damage)
        x, known = _log(damage), _log(self.measured["damage"])
        if len(values) == 1 or known[-1] == known[0]:
            return np.full_like(damage, values.mean()), np.zeros_like(damage)
        slopes = np.clip(np.diff(values) / np.maximum(np.diff(known), 1e-12), -1.0, 1.0)
        found = np.interp(x, known, values)
        found += slopes[0] * np.minimum(x - known[0], 0) + slopes[-1] * np.maximum(x - known[-1], 0)
        nearest = np.abs(x[:, None] - known).argmin(1)
        return found, np.abs(found - values[nearest])


def _log(damage: object) -> Float:
    return np.asarray(np.log(np.maximum(np.asarray(damage, float), 1e-12)))
