"""What carries a separation in a trained network: features that moved, or the target they face.

Between two checkpoints of a training both change: the layers' features, and the logits, which task
information is about. Features of one step are measured against the logits of another.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from torch import Tensor, nn

from empirical.analysis.couplings import BETWEEN, Pair
from empirical.analysis.seeds import CORRELATION, over_networks
from empirical.devices import device_of
from empirical.measuring.measurement import measure
from empirical.reading.batches import batches
from empirical.reading.layers import find_layers
from empirical.reading.repeated import repeated
from theory import spearman
from theory.shared.crossing import carrier_finding, crossed_parts
from theory.shared.findings import Estimate, Finding
from theory.shared.validation import instance

FEATURES = "features"


class CrossedNetwork(nn.Module):
    """Says what `readout` says of images, after `features` saw them too.

    Parameters
    ----------
    features : the network whose layers are measured, under names that begin with "features.".
    readout : the network whose logits the target is made from; another module than `features`.
    """

    def __init__(self, features: nn.Module, readout: nn.Module) -> None:
        super().__init__()
        self.features, self.readout = features, readout

    def forward(self, images: Tensor) -> Tensor:
        """Logits (n, classes) of the readout."""
        self.features(images)
        logits: Tensor = self.readout(images)
        return logits


def crossed_couplings(
    networks: Mapping[int, nn.Module],
    loader: Iterable[object],
    *,
    cells: Sequence[tuple[int, int]] | None = None,
    pair: Pair = BETWEEN,
    **options: Any,
) -> pd.DataFrame:
    """Coupling of two quantities of each layer, features of one step against logits of another.

    Parameters
    ----------
    networks : step -> the network at that step, of one architecture, on one device; each its own
        module.
    loader : of (images (n, ...), labels (n,)), read once a cell.
    cells : (step of the features, step of the target); by default every pair of the first and
        the last step.
    pair : the quantities, input capture and task information unless told otherwise.
    options : of `measure`; neither the hull nor standard errors are computed unless asked for.

    Returns
    -------
    A row per cell and layer: features, target, layer, coupling (Spearman over its channels).

    Raises
    ------
    TypeError, ValueError
        fewer than two networks, a cell of a step that is not there, arguments of `measure`.

    Examples
    --------
    >>> import torch
    >>> def network(seed):
    ...     torch.manual_seed(seed)
    ...     return nn.Sequential(nn.Conv2d(3, 6, 3), nn.Flatten(), nn.Linear(6 * 16, 5))
    >>> images, labels = torch.randn(60, 3, 6, 6), torch.randint(5, (60,))
    >>> found = crossed_couplings({0: network(0), 9: network(1)}, [(images, labels)])
    >>> found[["features", "target", "layer"]].values.tolist()
    [[0, 0, '0'], [9, 0, '0'], [0, 9, '0'], [9, 9, '0']]
    """
    instance("networks", networks, Mapping, "Pass {step: network}.")
    if len(networks) < 2:
        raise ValueError(
            f"networks must be of two steps or more; got {sorted(networks)}. Pass the first and "
            "the last checkpoint of a training."
        )
    first, last = min(networks), max(networks)
    if cells is None:
        cells = [(first, first), (last, first), (first, last), (last, last)]
    if unknown := {step for cell in cells for step in cell} - set(networks):
        raise ValueError(
            f"cells must name steps of networks ({sorted(networks)}); got {sorted(unknown)}."
        )
    loader = repeated(loader)
    example = next(batches(loader, device_of(networks[first]))).images
    layers = [layer.name for layer in find_layers(networks[first], example)]
    rows = []
    for step, target in cells:
        model, prefix = networks[step], ""
        if step != target:
            model, prefix = CrossedNetwork(networks[step], networks[target]), f"{FEATURES}."
        table = measure(
            model,
            loader,
            layers=[prefix + name for name in layers],
            **{"hull": False, "standard_errors": False} | options,
        )
        for name in layers:
            values = table.values(prefix + name)
            ranked = spearman(*(values[quantity] for quantity in pair.names))
            rows.append({"features": step, "target": target, "layer": name, "coupling": ranked})
    return pd.DataFrame(rows)


def carriers(couplings: pd.DataFrame) -> pd.DataFrame:
    """Means over layers, then over networks, and what of the fall each part carries.

    Parameters
    ----------
    couplings : of `crossed_couplings` with the four cells of first and last step, and a column
        seed, one a trained network.

    Returns
    -------
    Columns what, mean, low, high, networks: 95 % over networks (`over_networks`), NaN for fewer
    than three. What is each of the four couplings, the fall, and the parts that features and
    targets carry, which add up to it (`theory.shared.crossing.crossed_parts`).
    """
    means = couplings.groupby(["seed", "features", "target"])["coupling"].mean()
    steps = sorted(set(couplings["features"]))
    ends = [steps[0], steps[-1]]
    seeds = sorted(set(couplings["seed"]))
    crossed = np.array(
        [[[means[seed, step, target] for target in ends] for step in ends] for seed in seeds]
    )
    rows = []
    for what, values in crossed_parts(crossed).items():
        found = over_networks(values, None if "fall" in what else CORRELATION)
        rows.append({"what": what, **vars(found), "networks": len(seeds)})
    return pd.DataFrame(rows)


def carrier_sentence(table: pd.DataFrame) -> Finding:
    """The table of `carriers` in a sentence."""
    parts = table.set_index("what")[["mean", "low", "high"]]
    return carrier_finding(
        {str(what): Estimate(*row) for what, row in zip(parts.index, parts.to_numpy(), strict=True)}
    )
