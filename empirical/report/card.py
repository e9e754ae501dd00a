"""A card per channel: where it stands, who could stand in for it, and what its removal costs."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from empirical.analysis.measured_damage import (
    LOSS,
    MEASURED_ALONE,
    MEASURED_WITH_PEERS,
    measured_damage,
)
from empirical.analysis.standing import ALL, NONE, PART, WHY, Standing, standing
from empirical.measuring.damage_table import ALONE, RECOVERED, WITH_PEERS
from empirical.measuring.table import AxisTable
from empirical.report.card_page import card_html
from empirical.report.wording import spelled, unit, words
from theory.hull import Peer
from theory.shared.findings import Estimate, Finding

if TYPE_CHECKING:
    import pandas as pd
    from torch import nn

    from empirical.analysis.drivers import Drivers
    from empirical.lesions.table import LesionTable
    from empirical.reading.networks import Adapter

WIDTH = 80
"""Columns of a terminal."""

LOCAL, TARGET, BESIDE = "peer_predictability", "task_information", "conditional_task_information"


@dataclass(frozen=True, eq=False)
class ChannelCard:
    """What is known of one channel; `print` it, or show it in a notebook.

    Attributes
    ----------
    layer, channel : which
    standing : the numbers, as tables
    findings : sentences worded from them
    drivers : the images and positions that drive it most, and its filter; None without a model
    """

    layer: str
    channel: int
    standing: Standing
    findings: tuple[Finding, ...]
    drivers: Drivers | None = None

    @property
    def title(self) -> str:
        """Which channel of which layer."""
        return f"{self.layer}, channel {self.channel}"

    def __str__(self) -> str:
        lines = [self.title]
        for finding in self.findings:
            lines += textwrap.wrap(str(finding), WIDTH, initial_indent="  ", subsequent_indent="  ")
        for name, place in self.standing.quantities.items():
            value, error, rank = spelled(place)
            short = unit(name).replace(" per squared weight", "/weight²")
            lines.append(f"  {words(name):<29}{value:>10}{error:<11} {short:<14} {rank}")
        return "\n".join(line.rstrip() for line in lines)

    def to_html(self) -> str:
        """The card as a piece of HTML that needs nothing from elsewhere."""
        return card_html(self.title, self.standing, self.findings, self.drivers)

    def _repr_html_(self) -> str:
        return self.to_html()


def explain(
    table: AxisTable,
    layer: str,
    channel: int,
    *,
    model: nn.Module | None = None,
    loader: Iterable[object] | None = None,
    images: int = 8,
    lesions: Sequence[LesionTable | pd.DataFrame] = (),
    adapt: Adapter | None = None,
) -> ChannelCard:
    """Say what a channel carries, who could stand in for it and what its removal costs.

    Parameters
    ----------
    table : from `measure`; with ``damage=True`` the card says what is lost without the channel
    layer, channel : which
    model, loader : network and images, for the images and positions that drive the channel most;
        both or neither
    images : how many of them
    lesions : what `lesion` and `replace` returned, for measured damages beside foretold ones
    adapt : an `Adapter`, as in `measure`

    Raises
    ------
    TypeError, ValueError
        naming the argument, its value and the remedy

    Examples
    --------
    >>> import torch
    >>> from empirical import measure
    >>> net = torch.nn.Sequential(torch.nn.Linear(3, 3), torch.nn.ReLU(), torch.nn.Linear(3, 2))
    >>> _ = net[0].weight.data[1].copy_(-2 * net[0].weight.data[0])
    >>> data = [(torch.randn(200, 3), torch.arange(200) % 2)]
    >>> print(explain(measure(net, data), "0", 1).findings[1])
    Its peers can stand in for it: it is channel 0 times -2, plus a constant.
    """
    found = standing(table, layer, channel, measured_damage(table, *lesions))
    if (model is None) != (loader is None):
        given = "model" if loader is None else "loader"
        raise ValueError(f"model and loader must be given together; got {given} alone.")
    drivers = None
    if model is not None and loader is not None:
        from empirical.analysis.drivers import top_images

        point = table.settings.get("point", "pre_norm")
        drivers = top_images(model, loader, layer, channel, number=images, point=point, adapt=adapt)
    return ChannelCard(layer, int(channel), found, tuple(card_findings(found)), drivers)


def card_findings(found: Standing) -> list[Finding]:
    """Sentences on a channel's place on both axes, its peers, and what is lost without it."""
    if "dead" in found.kinds:
        return [
            Finding("It is dead: it has no variance on these images, and can go without a trace.")
        ]
    findings = [_place(found), _stand_in(found)]
    if found.peers and not _twin(found):
        findings.append(_peers(found))
    if found.damage:
        findings.append(_damage(found.damage))
    if MEASURED_ALONE in found.measured:
        findings.append(_lesioned(found.measured))
    listed = [WHY[kind] for kind in found.kinds if kind in WHY and kind != "copies"]
    if listed:
        findings.append(Finding("To be kept in mind: " + "; ".join(listed) + "."))
    return findings


def _place(found: Standing) -> Finding:
    parts: list[str] = []
    values: dict[str, Any] = {}
    for name, text, nothing in (
        (LOCAL, "its peers predict {%s:.0%%} of its variance", ""),
        (
            TARGET,
            "alone it carries {%s:.2g} nats about the target",
            "what it carries alone about the target is not told from zero ({%s:.1g} nats)",
        ),
        (
            BESIDE,
            "{%s:.2g} nats that no peer carries",
            "what no peer carries is not told from zero ({%s:.1g} nats)",
        ),
    ):
        place = found.quantities[name]
        if math.isnan(place.value.mean):
            parts.append(f"{words(name)} is not resolved")
            continue
        if nothing and place.value.low <= 0 < place.value.high:
            parts.append(nothing % name)
            values |= {name: place.value}
            continue
        parts.append(text % name + f" (rank {{{name}_rank}} of {{{name}_of}})")
        values |= {name: place.value, f"{name}_rank": place.rank, f"{name}_of": place.of}
    sentence = ", ".join(parts[:-1]) + f", and {parts[-1]}"
    return Finding(sentence[0].upper() + sentence[1:] + ".", values)


def _stand_in(found: Standing) -> Finding:
    share = found.quantities[LOCAL].value
    if twin := _twin(found):
        return Finding(
            "Its peers can stand in for it: it is channel {peer} times {weight:.3g}, plus a "
            "constant.",
            {"peer": twin.channel, "weight": twin.weight},
        )
    values = {"share": share, "peers": found.channels - 1}
    if math.isnan(share.mean):
        why = next((WHY[kind] for kind in found.kinds if kind in WHY), "its share has no value")
        return Finding(f"Whether its peers can stand in for it is not resolved: {why}.")
    if found.stand_in == NONE:
        return Finding(
            "None can stand in for it: its {peers} peers together predict {share:.1%} of its "
            "variance.",
            values,
        )
    if found.stand_in == ALL:
        return Finding("Its peers can stand in for it: they predict {share:.1%} of it.", values)
    if found.stand_in == PART:
        return Finding(
            "Its peers can stand in for part of it: they predict {share:.0%}, and the rest is its "
            "own.",
            values,
        )
    return Finding(
        "How far its peers can stand in for it is not resolved: {share:.0%} of its variance.",
        values,
    )


def _twin(found: Standing) -> Peer | None:
    """The peer that it is a multiple of."""
    return found.peers[0] if "copies" in found.kinds and found.peers else None


def _peers(found: Standing) -> Finding:
    """Who predicts it, as a weighted sum, and what each adds."""
    values: dict[str, Any] = {"total": sum(peer.gain for peer in found.peers)}
    parts = []
    for i, peer in enumerate(found.peers):
        values |= {f"{name}{i}": value for name, value in peer._asdict().items()}
        parts.append(f"{{weight{i}:+.3g}} × channel {{channel{i}}} (adds {{gain{i}:.0%}})")
    return Finding(
        "The peers that predict it: " + ", ".join(parts) + "; together {total:.0%} of the "
        "variance measured here.",
        values,
    )


def _lesioned(measured: Mapping[str, Estimate]) -> Finding:
    texts = {
        MEASURED_ALONE: "held at its mean {%s:.2g} nats",
        MEASURED_WITH_PEERS: "replaced by its peers {%s:.2g}",
        LOSS: "and the loss for the labels changes by {%s:+.2g}",
    }
    known = [name for name in texts if name in measured]
    return Finding(
        "Measured by lesions: " + ", ".join(texts[name] % name for name in known) + ".",
        {name: measured[name] for name in known},
    )


def _damage(damage: Mapping[str, Estimate]) -> Finding:
    alone, peers, recovered = (damage[name] for name in (ALONE, WITH_PEERS, RECOVERED))
    if not alone.low > 0:
        return Finding(
            "What is lost without it is not resolved above zero: held at its mean "
            "{alone:.2g} nats, replaced by its peers {peers:.2g}.",
            {"alone": alone, "peers": peers},
        )
    share = " They win back {recovered:.0%} of it." if math.isfinite(recovered.low) else ""
    return Finding(
        "Foretold: held at its mean, the prediction loses {alone:.2g} nats; replaced by its "
        "peers, {peers:.2g}." + share,
        {"alone": alone, "peers": peers, "recovered": recovered},
    )
