"""Passes over the first images of a loader, for what is averaged over images."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping

from torch import Tensor, nn

from empirical.reading.hooks import capture, evaluating
from theory.shared.validation import count

Batches = Iterable[tuple[Tensor, Tensor]]
"""What `empirical.reading.batches` yields: (images, labels), checked and on the device."""


def first_images(batches: Batches, images: int) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield batches up to the first `images` images, the last batch cut; read no further.

    Examples
    --------
    >>> import torch
    >>> loader = [(torch.zeros(4, 1), torch.zeros(4))] * 3
    >>> [len(images) for images, labels in first_images(loader, 6)]
    [4, 2]
    """
    left = count("images", images)
    for inputs, labels in batches:
        yield inputs[:left], labels[:left]
        left -= len(inputs)
        if left <= 0:
            return


def mean_over_images(
    model: nn.Module,
    batches: Batches,
    images: int,
    readers: Mapping[str, Callable[[Tensor], Tensor]],
) -> dict[str, Tensor]:
    """Average functions of submodules' outputs over the first `images` images, in float64.

    Parameters
    ----------
    model : runs in evaluation mode, without gradients
    batches, images : as in `first_images`
    readers : dotted submodule name -> function of its output whose result is a mean over the
        output's images; where a module runs several times its results are added

    Examples
    --------
    >>> import torch
    >>> model, labels = nn.Sequential(nn.Identity()), torch.zeros(2)
    >>> batches = [(torch.tensor([[1.0], [2.0]]), labels), (torch.tensor([[6.0], [9.0]]), labels)]
    >>> mean_over_images(model, batches, 3, {"0": lambda output: output.mean(0)})
    {'0': tensor([3.], dtype=torch.float64)}
    """
    totals: dict[str, Tensor] = {}
    seen = 0

    def reader(name: str, read: Callable[[Tensor], Tensor]) -> Callable[[Tensor], None]:
        def add(output: Tensor) -> None:
            found = len(output) * read(output).double().cpu()
            totals[name] = totals[name] + found if name in totals else found

        return add

    with evaluating(model), capture(model, {n: reader(n, read) for n, read in readers.items()}):
        for inputs, _ in first_images(batches, images):
            model(inputs)
            seen += len(inputs)
    return {name: total / seen for name, total in totals.items()}
