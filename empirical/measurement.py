"""Measure both axes of every layer of a network, in one pass over the data."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence, Sized
from contextlib import contextmanager
from itertools import chain

import torch
from rich.progress import Progress
from torch import Tensor, nn

from empirical.activations import capture, evaluating
from empirical.batches import batches
from empirical.estimation import project_to_first_component, tabulate
from empirical.layers import Layer, find_layers
from empirical.recorder import Recorder
from empirical.sampling import Sampler
from empirical.table import AxisTable
from empirical.targets import TargetFunction, target_function
from theory._validation import count, one_of


def measure(
    model: nn.Module,
    loader: Iterable[object],
    *,
    target: str | TargetFunction = "logit_margin",
    layers: Sequence[str] | None = None,
    positions: int = 16,
    sampling: str = "positions",
    groups: int = 10,
    noise: str | float = "median",
    ridge: float = 0.0,
    peers: int = 50,
    top: int = 10,
    bias_correction: bool = False,
    hull: bool = True,
    standard_errors: bool = True,
    seed: int = 0,
    first_image: int = 0,
    device: torch.device | str | None = None,
    progress: bool = False,
) -> AxisTable:
    """Measure both axes of every channel of `model` on the images of `loader`. In nats.

    The model runs once over the loader, in evaluation mode, whatever its mode, which is restored.
    The outputs of every convolution and hidden linear layer, before normalization, are sampled at
    random positions; their moments with the target give every quantity.

    Parameters
    ----------
    model : any nn.Module from images to logits (n, classes)
    loader : iterable of (images (n, ...), labels (n,)), such as a DataLoader
    target : "logit_margin", "true_logit", "logit_pc1", "label" (one-hot), or a function of
        (logits, labels) that returns (n,) or (n, q). "logit_pc1" is the first principal component
        of all logits on these images
    layers : dotted names; None means all. Layers of one channel, which has no peers, are left out
    positions : how many random positions of each image's map; all where it has no more
    sampling : "positions", or "pooled" for the mean over each map
    groups : images are split into this many groups, image i into group i modulo `groups`, for
        the delete-one-group jackknife: positions of one image are not independent
    noise, ridge, peers, top, bias_correction, hull : see `theory.channel_axes`
    standard_errors : False skips the jackknife
    seed : of the positions
    first_image : index of the loader's first image in the whole data, where processes share it
    device : where to run, the model being moved there; None means where the model is
    progress : show a progress bar

    Raises
    ------
    TypeError, ValueError
        naming the argument, its value and the remedy

    Examples
    --------
    >>> model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Flatten(), nn.Linear(4 * 36, 5))
    >>> generator = torch.Generator().manual_seed(0)
    >>> images = torch.randn(60, 3, 8, 8, generator=generator)
    >>> labels = torch.randint(5, (60,), generator=generator)
    >>> table = measure(model, [(images, labels)])
    >>> table.to_frame()[["layer", "channel"]].values.tolist()
    [['0', 0], ['0', 1], ['0', 2], ['0', 3]]
    """
    place = _place(model, device)
    function = target_function(target)
    one_of("sampling", sampling, ("positions", "pooled"))
    sampler = Sampler(
        sampling,
        count("positions", positions),
        count("groups", groups, least=2),
        count("seed", seed, least=0),
        place,
    )
    stream = batches(loader, place)
    first = next(stream)
    chosen, skipped = _choose(model, first[0], layers)
    recorder = Recorder(
        chosen, sampler, function, groups, count("first_image", first_image, least=0)
    )
    with evaluating(model), capture(model, recorder.readers()), _bar(progress, loader) as advance:
        for images, labels in chain([first], stream):
            recorder.run(model, images, labels)
            advance()
    options = {
        "noise": noise,
        "ridge": ridge,
        "peers": peers,
        "top": top,
        "bias_correction": bias_correction,
        "hull": hull,
    }
    settings = {
        "target": target if isinstance(target, str) else getattr(target, "__name__", repr(target)),
        "positions": positions,
        "sampling": sampling,
        "groups": groups,
        "seed": seed,
        "n_images": recorder.n_images,
        "standard_errors": standard_errors,
        **options,
    }
    parts = {layer.name: sums.moments() for layer, sums in recorder.sums()}
    if target == "logit_pc1":
        parts = project_to_first_component(parts)
    return tabulate(parts, chosen, settings, skipped)


def _place(model: nn.Module, device: torch.device | str | None) -> torch.device:
    if not isinstance(model, nn.Module):
        raise TypeError(f"model must be a torch.nn.Module; got {type(model).__name__}.")
    if device is not None:
        model.to(device)
        return torch.device(device)
    anything = next(chain(model.parameters(), model.buffers()), None)
    return torch.device("cpu") if anything is None else anything.device


def _choose(
    model: nn.Module, images: Tensor, names: Sequence[str] | None
) -> tuple[list[Layer], dict[str, str]]:
    found = find_layers(model, images, names)
    single = [layer.name for layer in found if layer.n_channels < 2]
    if names is not None and single:
        raise ValueError(
            f"layers must have at least 2 channels; {single[0]!r} has 1, and so no peers."
        )
    return (
        [layer for layer in found if layer.n_channels >= 2],
        dict.fromkeys(single, "one channel, so no peers"),
    )


@contextmanager
def _bar(shown: bool, loader: Iterable[object]) -> Iterator[Callable[[], None]]:
    if not shown:
        yield lambda: None
        return
    total = len(loader) if isinstance(loader, Sized) else None
    with Progress() as progress:
        task = progress.add_task("measuring, batches", total=total)
        yield lambda: progress.advance(task)
