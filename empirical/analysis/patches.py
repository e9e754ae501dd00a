"""The spectrum of image patches: what a first layer sees, and how coupled it must start.

For random filters and the network's own output as target the theory predicts a coupling of power
and target covariance that depends on this spectrum alone: steep spectra couple, flat ones do not.
"""

from __future__ import annotations

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from empirical.reading.patches import map_size, patches
from empirical.reading.sums import Sums
from theory import expected_output_coupling, initial_coupling_normalized
from theory.shared.validation import count

KERNEL = 3
RANDOM_OUTPUTS = 200
CHUNK = 250
"""Images whose patches are held at once."""


def patch_covariance(images: Tensor, *, kernel: int = KERNEL) -> NDArray[np.float64]:
    """(C k², C k²) covariance of all k × k patches, with zero padding as a convolution has.

    Parameters
    ----------
    images : (n, C, H, W).
    kernel : k.
    """
    size = count("kernel", kernel)
    if images.ndim != 4:
        raise ValueError(f"images must have shape (n, C, H, W); got {tuple(images.shape)}.")
    layer = nn.Conv2d(images.shape[1], 1, size, padding=size // 2)
    sums = Sums([("x", "x")])
    for chunk in images.double().split(CHUNK):
        everywhere = torch.arange(map_size(layer, chunk)).expand(len(chunk), -1)
        sums.add({"x": patches(layer, chunk, everywhere)}, [len(chunk)])
    return np.asarray(sums.total().covariance("x", "x")[0])


def spectrum_table(source: str, covariance: NDArray[np.float64]) -> pd.DataFrame:
    """Columns source, rank, share: the eigenvalues in falling order as shares of their sum."""
    values = np.linalg.eigvalsh(covariance)[::-1]
    return pd.DataFrame(
        {"source": source, "rank": np.arange(1, values.size + 1), "share": values / values.sum()}
    )


def spectrum_summary(sources: dict[str, NDArray[np.float64]]) -> pd.DataFrame:
    """One row per source: how steep its patch spectrum is and what coupling theory expects of it.

    Columns: source; dimension; first_share of the largest eigenvalue; effective_rank, the
    participation ratio (Σλ)²/Σλ²; exponent, the slope of log λ against log rank over all ranks;
    expected_coupling, E κ(Σ, Σm) of power and squared target covariance for a random output m;
    normalized_coupling and its standard deviation over random outputs, the same for the squared
    target correlation, which is what task information ranks by.
    """
    rows = []
    rng = np.random.default_rng(0)
    for source, covariance in sources.items():
        values = np.linalg.eigvalsh(covariance)[::-1]
        values = values[values > 1e-12 * values[0]]
        outputs = rng.standard_normal((RANDOM_OUTPUTS, values.size))
        normalized = [initial_coupling_normalized(values, values * m) for m in outputs]
        slope = np.polyfit(np.log(np.arange(1, values.size + 1)), np.log(values), 1)[0]
        rows.append(
            {
                "source": source,
                "dimension": covariance.shape[0],
                "first_share": values[0] / values.sum(),
                "effective_rank": values.sum() ** 2 / (values**2).sum(),
                "exponent": -slope,
                "expected_coupling": expected_output_coupling(values),
                "normalized_coupling": np.mean(normalized),
                "normalized_coupling_sd": np.std(normalized),
            }
        )
    return pd.DataFrame(rows)
