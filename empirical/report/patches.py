"""The demo's chapter on its networks and on the images' patches, which decide how they start."""

from __future__ import annotations

from collections.abc import Mapping

import pandas as pd
from matplotlib.figure import Figure

from empirical.analysis.couplings import BETWEEN, of_pair
from empirical.analysis.patches import spectrum_summary, spectrum_table
from empirical.analysis.seeds import CORRELATION, over_networks
from empirical.report.page import Section
from empirical.report.training import accuracy_finding
from theory.shared.findings import Finding
from theory.shared.style import label, mark, sheet, styled
from theory.shared.validation import Float


def patches_section(
    accuracy: pd.DataFrame, couplings: pd.DataFrame, covariances: Mapping[str, Float], note: str
) -> Section:
    """Say how accurate the networks are, and how coupled their first layer must start.

    Parameters
    ----------
    accuracy : rows seed, step, accuracy, images.
    couplings : of `training_couplings`.
    covariances : source -> covariance of its patches: that of the networks' images, then another.
    note : what was trained on what.
    """
    summary = spectrum_summary(dict(covariances))
    spectra = pd.concat([spectrum_table(name, c) for name, c in covariances.items()])
    return Section(
        title="The networks and what they see",
        note=note,
        findings=[accuracy_finding(accuracy, "held-out"), _foretold(summary, couplings)],
        figures={
            "patch_spectrum": (
                patch_spectra(spectra),
                "Spectrum of 3 × 3 input patches, of the images here and of others.",
            )
        },
        tables={"training": accuracy, "patch_spectra": spectra, "patch_summary": summary},
        shown={"patch_summary": "Patch spectra and the coupling that theory expects of them"},
    )


def _foretold(summary: pd.DataFrame, couplings: pd.DataFrame) -> Finding:
    """What theory expects of the spectra, and what the first layers here measure."""
    first = of_pair(couplings, BETWEEN)
    first = first[(first["step"] == first["step"].min()) & (first["depth"] == 0)]
    here, there = summary.iloc[0], summary.iloc[1]
    return Finding(
        "How coupled a first layer starts depends on the spectrum of its input patches. The "
        f"largest eigenvalue holds {{here_share:.0%}} of the patch variance of {here['source']}, "
        f"and {{there_share:.0%}} of that of {there['source']}: theory expects couplings of power "
        "and squared target correlation of {here:.2f} ± {here_sd:.2f} and {there:.2f} ± "
        "{there_sd:.2f} (mean and standard deviation over random linear outputs). The first layers "
        "here start at {measured:+.2f} in ranks.",
        {
            "here_share": here["first_share"],
            "there_share": there["first_share"],
            "here": here["normalized_coupling"],
            "here_sd": here["normalized_coupling_sd"],
            "there": there["normalized_coupling"],
            "there_sd": there["normalized_coupling_sd"],
            "measured": over_networks(first["coupling"], CORRELATION),
        },
    )


@styled()
def patch_spectra(spectra: pd.DataFrame) -> Figure:
    """Eigenvalues of the input patches' covariance against rank, one line per image source."""
    figure, axes = sheet(1, 1, width=5.0, height=3.4)
    panel = axes[0, 0]
    for index, (source, lines) in enumerate(spectra.groupby("source", sort=False)):
        look = mark(index, markersize=4, label=source)
        panel.loglog(lines["rank"], lines["share"], **look)
    panel.legend()
    label(panel, "rank of eigenvalue", "share of patch variance")
    return figure
