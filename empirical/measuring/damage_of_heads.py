"""The law of damage for attention heads: each is one set of channels, the others its peers."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from empirical.devices import placed
from empirical.measuring.calibration import LayerMoments
from empirical.measuring.damage_law import FORMS, QUADRATIC, RIDGE, foretell
from empirical.measuring.damage_table import DamageTable
from empirical.measuring.heads import HeadTable, measure_heads
from empirical.reading.attention import Heads, with_readable_heads
from empirical.reading.batches import batches
from empirical.reading.networks import Adapter, opened
from empirical.reading.points import Tap
from empirical.reading.repeated import repeated
from empirical.seeding import checked_seed
from theory.shared.validation import count, instance, one_of, positive

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True, eq=False)
class HeadDamageTable(DamageTable):
    """What `damage_heads` foretells: a set of channels for each head, in their order."""

    def to_frame(self) -> pd.DataFrame:
        """One row per head: `layer`, `head`, what the law foretells, `<name>_se`."""
        frame = super().to_frame().rename(columns={"channel": "head"})
        frame["head"] = [row for sets in self.channels.values() for row in range(len(sets))]
        return frame


def damage_heads(
    model: nn.Module,
    loader: Iterable[object],
    *,
    calibration: HeadTable | None = None,
    layers: Sequence[str] | None = None,
    form: str = "quadratic",
    draws: int = 1,
    ridge: float = RIDGE,
    positions: int = 16,
    groups: int = 10,
    seed: int = 0,
    device: torch.device | str | None = None,
    adapt: Adapter | None = None,
) -> HeadDamageTable:
    """Foretell the damage of losing each head, alone and with the others standing in. In nats.

    `damage` where the output projection reads the heads: a head is its set of channels, its peers
    are the attention's other heads. `lesion_heads(loss=...)` with the prediction's divergence
    measures both sides.

    Parameters
    ----------
    model, loader, form, draws, ridge, positions, groups, seed, device, adapt : as for
        `damage`
    calibration : what `measure_heads` found on other images: means and regressions. None takes
        them from the loader's own, each regression used on images that it was not fitted on
    layers : attentions, by dotted name; None means all whose heads can be read

    Raises
    ------
    ValueError
        no attention whose heads can be read, or that calibration does not hold; and as `damage`

    Examples
    --------
    >>> layer = nn.TransformerEncoderLayer(12, 3, 24, batch_first=True)
    >>> model = nn.Sequential(nn.Linear(6, 12), layer, nn.Flatten(), nn.Linear(60, 4)).eval()
    >>> images = torch.randn(80, 5, 6, generator=torch.Generator().manual_seed(0))
    >>> frame = damage_heads(model, [(images, torch.arange(80) % 4)]).to_frame()
    >>> frame[["layer", "head"]].values.tolist()
    [['1.self_attn', 0], ['1.self_attn', 1], ['1.self_attn', 2]]
    """
    model, place = opened(model, adapt), placed(model, device)
    loader = repeated(loader if adapt is None else adapt.loader(loader))
    settings: dict[str, Any] = QUADRATIC | {
        "point": "heads",
        "loss": "prediction",
        "form": one_of("form", form, FORMS),
        "draws": count("draws", draws),
        "ridge": positive("ridge", ridge, zero=True),
        "positions": count("positions", positions),
        "groups": count("groups", groups, least=2),
        "seed": checked_seed("seed", seed),
    }
    remedy = "Pass what measure_heads returned."
    instance("calibration", calibration, (HeadTable, type(None)), remedy)
    first = next(batches(loader, place, classes=False))
    known = calibration or measure_heads(
        model, loader, target="logit_pc1", layers=layers,
        positions=positions, groups=groups, seed=seed, device=place,
    )  # fmt: skip
    twin, found, _ = with_readable_heads(model, first.images[:2], layers)
    moments = {heads.name: known.of(heads) for heads in found}
    table = foretell(
        twin,
        loader,
        [_shown(twin, heads) for heads in found],
        LayerMoments(moments, groups=known.groups),
        settings,
        known.skipped,
        channels={heads.name: heads.blocks.tolist() for heads in found},
        held_out=calibration is None,
        device=place,
    )
    return HeadDamageTable(**vars(table))


def _shown(twin: nn.Module, heads: Heads) -> Tap:
    """Put a module before the projection whose output is the heads, and tap it there."""
    layer = heads.layer(twin)
    twin.set_submodule(heads.projection, nn.Sequential(nn.Identity(), layer.module))
    return Tap(layer, f"{heads.projection}.0", layer.channel_dim)
