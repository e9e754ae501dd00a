"""What of a change the features carry and what the target carries, from both crossed."""

from __future__ import annotations

from theory.shared.findings import Estimate, Finding
from theory.shared.validation import Float


def crossed_parts(crossed: Float) -> dict[str, Float]:
    """The four couplings of {first, last} features x {first, last} target, and parts of the fall.

    Features carry the mean, over both targets, of the fall as features go from first to last;
    targets the same of targets. Both add up to the whole fall.

    Parameters
    ----------
    crossed : (n, 2, 2) a quantity by network, features and target, each first then last.

    Examples
    --------
    >>> import numpy as np
    >>> parts = crossed_parts(np.array([[[0.5, 0.1], [0.6, 0.0]]]))
    >>> [f"{parts[name][0]:.2f}" for name in list(parts)[-3:]]
    ['0.50', '0.00', '0.50']
    """
    return {
        "first features, first target": crossed[:, 0, 0],
        "last features, first target": crossed[:, 1, 0],
        "first features, last target": crossed[:, 0, 1],
        "last features, last target": crossed[:, 1, 1],
        "fall": crossed[:, 0, 0] - crossed[:, 1, 1],
        "fall carried by features": (crossed[:, 0] - crossed[:, 1]).mean(axis=1),
        "fall carried by targets": (crossed[:, :, 0] - crossed[:, :, 1]).mean(axis=1),
    }


def carrier_finding(parts: dict[str, Estimate], of: str = "") -> Finding:
    """What each part carries in a sentence; `parts` are means by the names of `crossed_parts`.

    `of` comes before it and names the networks.
    """
    return Finding(
        "{of}Of the fall of the coupling by {fall:+.2f}, the features carry {features:+.2f} and "
        "the target carries {targets:+.2f}.",
        {
            "of": of,
            "fall": parts["fall"],
            "features": parts["fall carried by features"],
            "targets": parts["fall carried by targets"],
        },
    )
