"""Coupling of the two axes at random initialization, against its exact laws."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from sim.networks import Network
from sim.spectra import power_law
from sim.sweep import Result, Setting, run_sweep
from sim.tasks import Population, Regression
from theory import initial_coupling, initial_coupling_normalized, jackknife_standard_error
from theory.shared.findings import Finding
from theory.shared.style import figure_legend, label, mark, sheet, styled
from theory.shared.validation import Float, count

EXPONENTS = (0.5, 1.0, 1.5, 2.0)
ALIGNMENTS = (1.5, 0.5, -0.5)
SURE = 3.0
"""Standard errors beyond which a deviation is reported."""


@dataclass(frozen=True, eq=False)
class Initial:
    """Correlations across channels at initialization, one entry per setting.

    Attributes
    ----------
    exponent, alignment : the settings, (N,).
    plain, plain_se, plain_theory : corr(J, b²) over all channels of all seeds, its delete-one-
        seed standard error, and κ(Σ, c).
    normalized, normalized_se, normalized_theory : the same for corr(J, q), q = b²/(Jτ²).
    """

    exponent: Float
    alignment: Float
    plain: Float
    plain_se: Float
    plain_theory: Float
    normalized: Float
    normalized_se: Float
    normalized_theory: Float
    channels: int

    @property
    def deviations(self) -> Float:
        """(2, N) deviations from theory in standard errors: of the plain, of the normalized law."""
        return np.stack(
            [
                (self.plain - self.plain_theory) / self.plain_se,
                (self.normalized - self.normalized_theory) / self.normalized_se,
            ]
        )

    def findings(self) -> list[Finding]:
        """Sentences worded from the numbers."""
        found = []
        for row, (name, theory) in enumerate(
            (("power with b²", self.plain_theory), ("power with q", self.normalized_theory))
        ):
            size = np.abs(self.deviations[row])
            found.append(
                Finding(
                    "The coupling of {name} at initialization runs from {low:+.2f} to {high:+.2f} "
                    "over {settings} settings; {inside} of them lie within {sure:g} standard "
                    "errors of the exact law, the worst {worst:.1f} away ({channels} channels "
                    "each).",
                    {
                        "name": name,
                        "low": float(theory.min()),
                        "high": float(theory.max()),
                        "settings": size.size,
                        "inside": int((size < SURE).sum()),
                        "sure": SURE,
                        "worst": float(size.max()),
                        "channels": self.channels,
                    },
                )
            )
        opposite = self.normalized_theory < 0
        found.append(
            Finding(
                "In {negative} of {settings} settings κ is positive and the normalized coupling "
                "negative: a target on weak input directions couples the covariance with the power "
                "less than dividing by the power uncouples it.",
                {"negative": int(opposite.sum()), "settings": int(opposite.size)},
            )
        )
        return found

    def to_frame(self) -> pd.DataFrame:
        """One row per setting."""
        names = ["exponent", "alignment", "plain", "plain_se", "plain_theory"]
        names += ["normalized", "normalized_se", "normalized_theory"]
        return pd.DataFrame({name: getattr(self, name) for name in names})

    @styled()
    def figure(self) -> Figure:
        """Both correlations against the spectrum exponent, with the laws as lines."""
        figure, axes = sheet(2, 2, width=6.6, height=2.7, heights=(1.1, 0.3))
        self._draw(axes[0, 0], "plain", "corr(J, b²)")
        self._draw(axes[0, 1], "normalized", "corr(J, q),  q = b² / (J τ²)")
        figure_legend(axes[1], axes[0, :1])
        return figure

    def _draw(self, panel: Axes, name: str, what: str) -> None:
        for row, alignment in enumerate(np.unique(self.alignment)[::-1]):
            chosen = self.alignment == alignment
            law = getattr(self, f"{name}_theory")[chosen]
            panel.plot(self.exponent[chosen], law, **mark(row, marker=""))
            panel.errorbar(
                self.exponent[chosen],
                getattr(self, name)[chosen],
                SURE * getattr(self, f"{name}_se")[chosen],
                **mark(row, linestyle="none"),
                capsize=2,
                label=f"target alignment {alignment:g}",
            )
        label(panel, "spectrum exponent", what, f"bars: {SURE:g} standard errors")


def initial(
    *,
    exponents: Sequence[float] = EXPONENTS,
    alignments: Sequence[float] = ALIGNMENTS,
    dimension: int = 32,
    width: int = 128,
    seeds: int = 200,
    out: str | os.PathLike[str] | None = None,
    scheduler: str | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Initial:
    """Draw random layers for every exponent and alignment, and compare with κ and its normal form.

    Parameters
    ----------
    exponents, alignments : of spectrum and target; every pair is a setting.
    dimension, width, seeds : inputs, channels, and random layers of a setting.
    out, scheduler, progress : as in `run_sweep`.

    >>> result = initial(exponents=[1.0], alignments=[0.5], dimension=8, width=16, seeds=20)
    >>> bool(np.abs(result.deviations).max() < 4)
    True
    """
    count("seeds", seeds, least=2)
    common: dict[str, Any] = {
        "dimension": count("dimension", dimension),
        "width": count("width", width),
        "seeds": seeds,
    }
    settings = [
        common | {"exponent": e, "alignment": a, "first_seed": seeds * number}
        for number, (e, a) in enumerate(product(exponents, alignments))
    ]
    rows = run_sweep(initial_cell, settings, out=out, scheduler=scheduler, progress=progress)
    found = {name: np.array([row[name] for row in rows], dtype=np.float64) for name in rows[0]}
    exponent, alignment = (
        np.array([setting[name] for setting in settings]) for name in ("exponent", "alignment")
    )
    return Initial(exponent, alignment, **found, channels=seeds * width)


def initial_cell(setting: Setting) -> Result:
    """One setting: correlations over the channels of all its layers, and their laws."""
    task = Regression(
        power_law(int(setting["dimension"]), setting["exponent"]), alignment=setting["alignment"]
    )
    first, population = int(setting["first_seed"]), task.population
    network, cross = Network(width=int(setting["width"])), population.cross[:, 0]
    plain, plain_se, normalized, normalized_se = _correlations(
        population, network, range(first, first + int(setting["seeds"]))
    )
    return {
        "plain": plain,
        "plain_se": plain_se,
        "plain_theory": float(initial_coupling(population.spectrum, cross)),
        "normalized": normalized,
        "normalized_se": normalized_se,
        "normalized_theory": float(initial_coupling_normalized(population.spectrum, cross)),
    }


def _correlations(
    population: Population, network: Network, seeds: Sequence[int]
) -> tuple[float, float, float, float]:
    """corr(J, b²) and corr(J, q) over the channels of all seeds, each with its standard error."""
    filters = np.stack([network.draw(population, seed).filters for seed in seeds])
    power = np.sum(filters**2 * population.spectrum, axis=-1)
    squared = (filters @ population.cross[:, 0]) ** 2
    found: list[float] = []
    for values in (squared, squared / power):
        estimate, replicates = pooled_correlation(power, values)
        found += [estimate, float(jackknife_standard_error(replicates))]
    return found[0], found[1], found[2], found[3]


def pooled_correlation(a: Float, b: Float) -> tuple[float, Float]:
    """Correlation over all entries of (S, C) arrays, and without each row in turn.

    >>> pooled_correlation(np.array([[0.0, 1.0], [2.0, 3.0]]), np.array([[0.0, 1.0], [2.0, 5.0]]))
    (0.956..., array([1., 1.]))
    """
    x, y = a - a.mean(), b - b.mean()
    sums = np.stack([v.sum(axis=1) for v in (x**0, x, y, x * x, y * y, x * y)])

    def correlation(total: Float) -> Float:
        n, sx, sy, xx, yy, xy = total
        value: Float = (xy - sx * sy / n) / np.sqrt((xx - sx**2 / n) * (yy - sy**2 / n))
        return value

    whole = sums.sum(axis=1)
    return float(correlation(whole)), correlation(whole[:, None] - sums)
