"""Loss and accuracy of a network on a set of images."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from empirical.devices import placed
from empirical.reading.batches import batches
from empirical.reading.hooks import evaluating
from empirical.reading.networks import Adapter, opened
from empirical.reading.outputs import answered, checked_logits, checked_outputs

AT_ONCE = 50
"""Images of one pass on a CPU. The outputs of larger batches leave its caches, and the system maps
and clears memory for them anew in every layer."""


@dataclass(frozen=True)
class Evaluation:
    """Mean cross-entropy (nats) and accuracy over `images` images, with standard errors."""

    images: int
    loss: float
    loss_se: float
    accuracy: float
    accuracy_se: float


def evaluate(
    model: nn.Module,
    loader: Iterable[object],
    *,
    device: str | torch.device | None = None,
    adapt: Adapter | None = None,
) -> Evaluation:
    """Return loss and accuracy of `model`, in evaluation mode, over all batches of `loader`.

    Of labels that are class numbers and at least 2 logits; `adapt` is an `Adapter`, where batches
    are not such pairs or the model returns more than its logits.

    Examples
    --------
    >>> from empirical.data.loading import image_loader, load_data
    >>> from empirical.models import create_model
    >>> _, test = load_data("digits")
    >>> model = create_model("small_convnet", classes=10, image_size=8, channels=1)
    >>> evaluate(model, image_loader(test)).images
    599
    """
    model = opened(model, adapt)
    loader = loader if adapt is None else adapt.loader(loader)
    where = placed(model, device)
    losses, hits = [], []
    with evaluating(model):
        for batch in batches(loader, where):
            n = len(batch.images)
            size = AT_ONCE if where.type == "cpu" else n
            parts = [batch.part(slice(start, start + size)) for start in range(0, n, size)]
            logits = torch.cat(
                [checked_outputs(answered(model, p.images), len(p.images)) for p in parts]
            )
            logits = checked_logits(logits, n, batch.largest_label).float()
            losses.append(functional.cross_entropy(logits, batch.labels, reduction="none").cpu())
            hits.append((logits.argmax(1) == batch.labels).cpu())
    loss, hit = torch.cat(losses).double().numpy(), torch.cat(hits).double().numpy()
    root = np.sqrt(len(loss))
    return Evaluation(
        images=len(loss),
        loss=float(loss.mean()),
        loss_se=float(loss.std() / root),
        accuracy=float(hit.mean()),
        accuracy_se=float(hit.std() / root),
    )
