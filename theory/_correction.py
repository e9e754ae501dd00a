"""Exact bias of plug-in informations of jointly Gaussian variables, subtracted."""

from __future__ import annotations

import numpy as np

from theory._precision import Precision
from theory.few_samples import LEAST_SPARE
from theory.sampling import gaussian_information_bias
from theory.shared.validation import Float
from theory.standardize import Standardized


def correct(
    local: dict[str, Float],
    target: dict[str, Float],
    n: float | None,
    layer: Standardized,
    inverse: Precision,
    *,
    everything: bool,
    how: str,
) -> None:
    """Subtract from each information its exact plug-in bias for jointly Gaussian variables.

    Conditioning on m variables costs m degrees of freedom: I(A; B | C) from n samples is biased
    like I(A; B) from n - m. Peers that are functions of others cost none.
    """
    samples, r = int(n or 0), layer.loadings.shape[1]
    others = inverse.basis.size - 1
    enough = samples - 1 - others >= max(LEAST_SPARE, r + 2)
    if how == "corrected":
        adjusted = np.full(layer.live.size, np.nan)
        if enough:
            adjusted = 1 - (1 - local["peer_predictability"]) * (samples - 1) / (
                samples - 1 - others
            )
            if others:
                local["peer_information"] -= gaussian_information_bias(samples, 1, others)
            if target:
                given = gaussian_information_bias(samples - others, 1, r)
                target["conditional_task_information"] -= given
        local["hull_score"] = adjusted / np.maximum(1, local["hull_size"])
        local["peer_predictability"] = adjusted
    if not everything:
        return
    peers = layer.live.size - 1
    if peers:
        pair = gaussian_information_bias(samples, 1, 1)
        local["peer_overlap"] -= pair * peers / (layer.power.size - 1)
    if target:
        alone = gaussian_information_bias(samples, 1, r)
        target["task_information"] -= alone
        if peers:
            target["task_redundancy"] -= alone
            target["target_excess"] -= gaussian_information_bias(samples - 1, 1, r)
        else:  # all of it is unique
            target["task_unique"] -= alone
