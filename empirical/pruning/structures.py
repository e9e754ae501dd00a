"""Which of several structures keeps nearest to the network, before one of them is chosen.

The question of EagleEye (arXiv:2007.02491), which takes batch norms anew and counts right answers
on the images that they were taken on. Here every structure is refitted to the network on one half
of the images, and its divergence measured on the other; no label is read. Spearman's correlation
with the accuracy after refitting on all images: see docs/pruning.md, by
benchmarks/pruning_forecast.py.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import pandas as pd
from torch import nn

from empirical.devices import undisturbed
from empirical.pruning.best_practice import best_criterion
from empirical.pruning.calibration import Calibration, calibrated
from empirical.pruning.choosing import Request, counts_of, verified
from empirical.pruning.criterion import Score
from empirical.pruning.forecast_law import Answers
from empirical.pruning.recovering import CLOSED_FORMS, apply, check_recovery
from empirical.pruning.recovery import AUTO
from empirical.reading.networks import Adapter
from theory.shared.validation import instance, one_of

HALVES = 2
"""One of so many images measures; the others fit."""


@undisturbed()
def compare_structures(
    model: nn.Module,
    loader: Iterable[object] | Calibration,
    structures: Sequence[Mapping[str, int]],
    *,
    criterion: str | Score = AUTO,
    recovery: str = "reconstruct",
    seed: int = 0,
    skip: Sequence[str] = (),
    adapt: Adapter | None = None,
) -> pd.DataFrame:
    """Measure what is left of `model` under each structure; the model is left as it is.

    Parameters
    ----------
    model, loader, criterion, seed, skip, adapt : as of `prune`
    structures : each as `counts` of `prune`, layer -> channels to keep; others stay whole
    recovery : "reconstruct" or "compensate", fitted on every other calibration image

    Returns
    -------
    One row per structure, as given: `macs` (share that is left), `kl` (mean divergence from the
    dense network's predictions on the images not fitted on, nats) with its standard error `kl_se`,
    `agreement` with its predictions, and `place`, 1 for the least divergence.

    Raises
    ------
    ValueError
        no structure; a layer that cannot be cut; too few images; no logits of two classes or more
    """
    instance("structures", structures, (list, tuple), 'Pass a list, as [{"conv1": 8}].')
    if not structures:
        raise ValueError('structures is empty. Pass at least one, as [{"conv1": 8}].')
    for number, counts in enumerate(structures):
        instance(f"structures[{number}]", counts, Mapping, 'Pass a dict, as {"conv1": 8}.')
    one_of("recovery", recovery, CLOSED_FORMS)
    known = calibrated(model, loader, skip=skip, adapt=adapt)
    fitted, held = known.held_out(HALVES)
    check_recovery(fitted, recovery)
    criterion = best_criterion(fitted, criterion)
    dense = Answers.of_dense(known.model, held, classes=False)
    if not dense.classes:
        raise ValueError(
            "model must return logits (n, classes) of at least 2 classes for its predictions to "
            f"be compared; it returned shape {tuple(dense.logits.shape)}."
        )
    rows = []
    for counts in structures:
        request = Request(1.0, criterion, "uniform", counts=counts, seed=seed)
        own, kept = verified(fitted, request.kept)
        found = dense.against(Answers.of(apply(own, kept, recovery), held, classes=False))
        rows.append(
            {"macs": own.graph.macs(counts_of(own, kept)) / own.graph.macs()}
            | {name: found[name] for name in ("kl", "kl_se", "agreement")}
        )
    table = pd.DataFrame(rows)
    table["place"] = table["kl"].rank(method="first", na_option="bottom").astype(int)
    return table
