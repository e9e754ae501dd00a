"""A pass over the first images of a loader, for what is averaged over images."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

from torch import Tensor, nn

from empirical.reading.batches import Batch, leading
from empirical.reading.hooks import capture, evaluating


def mean_over_images(
    model: nn.Module,
    stream: Iterable[Batch],
    images: int,
    readers: Mapping[str, Callable[[Tensor], Tensor]],
) -> dict[str, Tensor]:
    """Average functions of submodules' outputs over the first `images` images, in float64.

    Parameters
    ----------
    model : runs in evaluation mode, without gradients
    stream, images : as in `leading`
    readers : dotted submodule name -> function of its output whose result is a mean over the
        output's images; where a module runs several times its results are added

    Examples
    --------
    >>> import torch
    >>> from empirical.reading.batches import batches
    >>> model, labels = nn.Sequential(nn.Identity()), torch.tensor([0, 1])
    >>> loader = [(torch.tensor([[1.0], [2.0]]), labels), (torch.tensor([[6.0], [9.0]]), labels)]
    >>> stream = batches(loader)
    >>> mean_over_images(model, stream, 3, {"0": lambda output: output.mean(0)})
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
        for inputs, _ in leading(stream, images):
            model(inputs)
            seen += len(inputs)
    return {name: total / seen for name, total in totals.items()}
