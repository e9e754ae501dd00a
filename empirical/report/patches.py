"""The demo's chapter on its networks and on the images' patches, which decide how they start."""

from __future__ import annotations

from collections.abc import Mapping

import pandas as pd
from matplotlib.figure import Figure

from empirical.analysis.patches import spectrum_summary, spectrum_table
from empirical.report.page import Section
from empirical.report.training import accuracy_finding
from theory.shared.findings import Finding
from theory.shared.style import label, mark, sheet, styled
from theory.shared.validation import Float


def patches_section(accuracy: pd.DataFrame, covariances: Mapping[str, Float]) -> Section:
    """Say how accurate the networks are, and how coupled their first layer must start.

    Parameters
    ----------
    accuracy : rows seed, step, accuracy, images.
    covariances : source -> covariance of its patches: the digits, then the photographs.
    """
    summary = spectrum_summary(dict(covariances))
    spectra = pd.concat([spectrum_table(name, c) for name, c in covariances.items()])
    digits, photographs = summary.iloc[0], summary.iloc[1]
    return Section(
        title="The networks and what they see",
        note="Three convolutions with batch norm, trained on two thirds of scikit-learn's "
        "handwritten digits; the last third is held out for every accuracy and damage below.",
        findings=[
            accuracy_finding(accuracy, "held-out"),
            Finding(
                "How coupled a first layer starts depends on the spectrum of its input patches. "
                "The largest eigenvalue holds {digits_share:.0%} of the patch variance of the "
                "digits and {photo_share:.0%} of that of photographs, and theory expects a "
                "coupling of power and squared target correlation of {digits_coupling:.2f} ± "
                "{digits_sd:.2f} against {photo_coupling:.2f} ± {photo_sd:.2f} (mean and standard "
                "deviation over random linear outputs): a weak start is expected here, a strong "
                "one on natural images.",
                {
                    "digits_share": digits["first_share"],
                    "photo_share": photographs["first_share"],
                    "digits_coupling": digits["normalized_coupling"],
                    "digits_sd": digits["normalized_coupling_sd"],
                    "photo_coupling": photographs["normalized_coupling"],
                    "photo_sd": photographs["normalized_coupling_sd"],
                },
            ),
        ],
        figures={
            "patch_spectrum": (
                patch_spectra(spectra),
                "Spectrum of 3 × 3 input patches: the digits against the two photographs that "
                "scikit-learn ships, as a yardstick for natural images.",
            )
        },
        tables={"training": accuracy, "patch_spectra": spectra, "patch_summary": summary},
        shown={"patch_summary": "Patch spectra and the coupling that theory expects of them"},
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
