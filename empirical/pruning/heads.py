"""`prune_heads`: take whole attention heads out, the others speaking for them.

By T5, losing head S costs what the projection reads of it, tr(W K_SS Wᵀ), and replacing it by its
regression on the other heads tr(W K_{S|O} Wᵀ); that regression is linear, so it merges into the
projection: W_K + W_S B, and W_S (μ_S − B μ_K) into its bias.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from empirical.devices import device_of, undisturbed
from empirical.measuring.heads import QUANTITIES, HeadTable, measure_heads
from empirical.pruning.compensation import regression
from empirical.reading.attention import Heads, with_readable_heads
from empirical.reading.batches import batches
from empirical.reading.hooks import edit_inputs, evaluating
from empirical.reading.networks import Adapter, closed, copied, opened
from empirical.reading.outputs import apart, moved_by_images
from empirical.reading.repeated import repeated
from theory.shared.validation import Float, count, instance, one_of, within

REPLACEABILITY = "replaceability"
CRITERIA = (REPLACEABILITY, *QUANTITIES)

EXAMPLES = 4


@dataclass(frozen=True)
class PrunedHeads:
    """A network with fewer heads, and which of each attention's heads stayed.

    Attributes
    ----------
    model : the smaller network; attentions of torch's are `HeadedAttention`
    kept : attention -> ascending heads that stayed
    skipped : attention -> why none of its heads could be removed
    parameters_before, parameters_after : numbers of weights
    """

    model: nn.Module
    kept: Mapping[str, NDArray[np.intp]]
    skipped: Mapping[str, str]
    parameters_before: int
    parameters_after: int


@undisturbed()
def prune_heads(
    model: nn.Module,
    loader: Iterable[object] | HeadTable,
    *,
    share: float = 0.5,
    heads: Mapping[str, Sequence[int]] | None = None,
    criterion: str = REPLACEABILITY,
    compensate: bool = True,
    example: Tensor | None = None,
    adapt: Adapter | None = None,
) -> PrunedHeads:
    """Return a copy of `model` with fewer attention heads; the model itself is left as it is.

    Parameters
    ----------
    model : any `nn.Module` whose heads `measure_heads` can read
    loader : calibration batches of (images, labels), or what `measure_heads` made of them
    share : of each attention's heads to remove, at most all but one; rounded down
    heads : attention -> heads to remove, instead of `share`; others stay whole
    criterion : "replaceability": one head after the other, each time the one whose loss the
        heads that are left can best make up for, tr(W K_{S|O} Wᵀ) least, the weights merged in
        between; or a quantity of `measure_heads`, the heads that score lowest going
    compensate : merge the removed heads' regression on the others into the projection
    example : images on which removal is verified; needed with a `HeadTable`
    adapt : an `Adapter`, where batches are not pairs or the model returns more than its logits

    Raises
    ------
    ValueError
        an unknown attention, head or criterion; all heads of an attention; named heads without
        which the network computes something else than with them silenced (such attentions stay
        whole and are listed in `skipped` where none is named)

    Examples
    --------
    >>> layer = nn.TransformerEncoderLayer(12, 3, 24, batch_first=True)
    >>> model = nn.Sequential(nn.Linear(6, 12), layer, nn.Flatten(), nn.Linear(60, 4)).eval()
    >>> generator = torch.Generator().manual_seed(0)
    >>> images = torch.randn(80, 5, 6, generator=generator)
    >>> pruned = prune_heads(model, [(images, torch.arange(80) % 4)], heads={"1.self_attn": [1]})
    >>> pruned.kept["1.self_attn"].tolist(), pruned.model[1].self_attn.out_proj
    ([0, 2], Linear(in_features=8, out_features=12, bias=True))
    """
    one_of("criterion", criterion, CRITERIA)
    within("share", share, "[0, 1)")
    instance("heads", heads, (Mapping, type(None)), "Pass attention -> the heads that go.")
    model = opened(model, adapt)
    if isinstance(loader, HeadTable):
        table = loader
        if example is None:
            raise ValueError(
                "example must be given with a HeadTable: some images, on which removal is verified."
            )
        images = example.to(device_of(model))
    else:
        loader = repeated(loader if adapt is None else adapt.loader(loader))
        names = None if heads is None else list(heads)
        table = measure_heads(model, loader, layers=names)
        images = next(iter(batches(loader, device_of(model), classes=False))).images[:EXAMPLES]
    before = _parameters(model)
    gone = _wanted(table, share, heads)
    result, found, skipped = with_readable_heads(model, images[:2], list(gone))
    kept: dict[str, NDArray[np.intp]] = {}
    for each in found:
        if not gone[each.name]:
            continue
        table.of(each)  # refuses a table of other heads
        stay = _choose(table, each, gone[each.name], criterion)
        merged = copied(result)
        if compensate:
            _merge(merged, each, table, stay)
        smaller, reason = _removed(merged, each, stay, images)
        if reason is None:
            kept[each.name], result = stay, smaller
        elif heads is not None:
            raise ValueError(
                f"heads of {each.name!r} cannot be removed: {reason}. Leave it out of heads."
            )
        else:
            skipped[each.name] = reason
    return PrunedHeads(closed(result), kept, skipped, before, _parameters(result))


def _wanted(
    table: HeadTable, share: float, heads: Mapping[str, Sequence[int]] | None
) -> dict[str, int | list[int]]:
    """Attention -> how many heads go, or which."""
    if heads is None:
        return {name: int(share * known.n_heads) for name, known in table.heads.items()}
    wanted: dict[str, int | list[int]] = {}
    for name, chosen in heads.items():
        total = table.heads[one_of("heads", name, table.heads)].n_heads
        listed = sorted({count(f"heads[{name!r}]", head, least=0) for head in chosen})
        if listed and listed[-1] >= total:
            raise ValueError(
                f"heads[{name!r}] must be from 0 to {total - 1}; got {listed[-1]}. The attention "
                f"has {total} heads."
            )
        if len(listed) == total:
            raise ValueError(
                f"heads[{name!r}] must leave one of its {total} heads; got all. An attention "
                "cannot be emptied."
            )
        wanted[name] = listed
    return wanted


def _choose(
    table: HeadTable, heads: Heads, gone: int | list[int], criterion: str
) -> NDArray[np.intp]:
    """Heads that stay."""
    everyone = np.arange(heads.n_heads)
    if isinstance(gone, list):
        return np.setdiff1d(everyone, gone)
    if criterion != REPLACEABILITY:
        scores = getattr(table.axes[heads.name], criterion)
        if np.isnan(scores).any():
            raise ValueError(
                f"criterion {criterion!r} must be known for every head; for {heads.name!r} some "
                "are NaN. Measure more images, or choose another criterion."
            )
        return np.sort(np.argsort(scores, kind="stable")[gone:])
    kept, cov = everyone, _covariance(table, heads)
    weights = table.readouts[heads.name]
    for _ in range(gone):
        losses = []
        for head in kept:
            rest = np.setdiff1d(kept, [head])
            coefficients = _regression(cov, heads, rest, np.array([head]))
            own, others = heads.blocks[head], heads.blocks[rest].ravel()
            left = cov[np.ix_(own, own)] - coefficients @ cov[np.ix_(others, own)]
            merged = _merged(weights, cov, heads, kept)[:, own]
            losses.append(np.sum((merged @ left) * merged))
        kept = np.delete(kept, int(np.argmin(losses)))
    return kept


def _covariance(table: HeadTable, heads: Heads) -> Float:
    c = heads.blocks.size
    return table.moments[heads.name].cov[:c, :c]


def _regression(cov: Float, heads: Heads, kept: NDArray[np.intp], gone: NDArray[np.intp]) -> Float:
    """B of the channels of some heads on those of others."""
    own, others = heads.blocks[gone].ravel(), heads.blocks[kept].ravel()
    order = np.concatenate([others, own])
    return regression(cov[np.ix_(order, order)], np.arange(others.size))


def _merged(weights: Float, cov: Float, heads: Heads, kept: NDArray[np.intp]) -> Float:
    """(m, C) weights of the projection, those of the heads that are gone merged into the kept."""
    gone = np.setdiff1d(np.arange(heads.n_heads), kept)
    if not gone.size:
        return weights
    own, others = heads.blocks[gone].ravel(), heads.blocks[kept].ravel()
    merged = weights.copy()
    merged[:, others] += weights[:, own] @ _regression(cov, heads, kept, gone)
    return merged


@torch.no_grad()
def _merge(model: nn.Module, heads: Heads, table: HeadTable, kept: NDArray[np.intp]) -> None:
    """Merge the regression of the heads that go into the projection, in place."""
    projection = heads.layer(model).module
    cov, weights = _covariance(table, heads), heads.readout(model)
    gone = np.setdiff1d(np.arange(heads.n_heads), kept)
    own, others = heads.blocks[gone].ravel(), heads.blocks[kept].ravel()
    mean = table.moments[heads.name].mean
    offset = mean[own] - _regression(cov, heads, kept, gone) @ mean[others]
    merged = torch.from_numpy(_merged(weights, cov, heads, kept))
    shift = torch.from_numpy(weights[:, own] @ offset).to(projection.weight)
    projection.weight.copy_(merged)
    if projection.bias is None:
        projection.bias = nn.Parameter(torch.zeros_like(shift))
    projection.bias += shift


def _removed(
    model: nn.Module, heads: Heads, kept: NDArray[np.intp], images: Tensor
) -> tuple[nn.Module, str | None]:
    """Return the network without the heads, and why it is not one: it is compared with silence."""
    mask = torch.zeros(heads.blocks.size)
    mask[torch.from_numpy(heads.blocks[kept].ravel())] = 1
    silence = {heads.projection: lambda inputs: inputs * mask.to(inputs)}
    with evaluating(model), edit_inputs(model, silence):
        expected = model(images)
        moved = moved_by_images(model, images, expected)
    smaller = copied(model)
    try:
        _remove(smaller, heads, kept)
        with evaluating(smaller):
            difference = apart(smaller(images), expected, moved)
    except (RuntimeError, ValueError, TypeError) as error:
        return model, f"its forward needs all of its heads ({str(error).splitlines()[0]})"
    if difference:
        return model, (
            f"without them outputs differ by {difference:.3g} from those with them silenced"
        )
    return smaller, None


@torch.no_grad()
def _remove(model: nn.Module, heads: Heads, kept: NDArray[np.intp]) -> None:
    """Cut every weight that is of some head, in place; readers hold (parts, heads, width) rows."""
    index = torch.from_numpy(kept.astype(np.int64))
    attention = model.get_submodule(heads.name)
    projection = heads.layer(model).module
    columns = torch.from_numpy(heads.blocks[kept].ravel().astype(np.int64))
    _cut(projection, "weight", projection.weight[:, columns.to(projection.weight.device)])
    projection.in_features = columns.numel()
    for name in heads.readers:
        reader = model.get_submodule(name)
        assert isinstance(reader, nn.Linear)
        for kind in ("weight", "bias"):
            rows = getattr(reader, kind)
            if rows is not None:
                split = rows.unflatten(0, (-1, heads.n_heads, heads.width))
                _cut(reader, kind, split[:, index.to(rows.device)].flatten(0, 2))
        reader.out_features = len(reader.weight)
    for name, values in [
        *attention.named_parameters(recurse=False),
        *attention.named_buffers(recurse=False),
    ]:
        # a value for each head (relative positions, scales of cosine attention) or channel (biases)
        of_heads = [dim for dim, size in enumerate(values.shape) if size == heads.n_heads]
        if len(of_heads) == 1:
            _cut(attention, name, values.index_select(of_heads[0], index.to(values.device)))
        elif values.shape == (heads.blocks.size,):
            _cut(attention, name, values[columns.to(values.device)])
    _cut_position_network(attention, heads, index)
    for name in (heads.count, "num_heads"):
        if getattr(attention, name, None) == heads.n_heads:
            setattr(attention, name, len(kept))
    for name, value in vars(attention).items():
        if name in WIDTHS and value == heads.blocks.size:
            setattr(attention, name, columns.numel())


WIDTHS = ("attn_dim", "all_head_size", "inner_dim", "all_head_dim")
"""What attentions call the number of channels of all their heads."""


def _cut_position_network(attention: nn.Module, heads: Heads, index: Tensor) -> None:
    """Swin's second version computes what it adds for each head by a small network."""
    network = getattr(attention, "cpb_mlp", None)
    last = network[-1] if isinstance(network, nn.Sequential) else None
    if isinstance(last, nn.Linear) and last.out_features == heads.n_heads:
        _cut(last, "weight", last.weight[index.to(last.weight.device)])
        last.out_features = len(index)


def _cut(module: nn.Module, name: str, values: Tensor) -> None:
    old, new = getattr(module, name), values.detach().clone()
    if isinstance(old, nn.Parameter):
        new = nn.Parameter(new, requires_grad=old.requires_grad)
    setattr(module, name, new)


def _parameters(model: nn.Module) -> int:
    return sum(parameter.numel() for parameter in model.parameters())
