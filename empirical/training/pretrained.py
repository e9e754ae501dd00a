"""Starting from the weights of another training: the backbone is taken over, the classifier new."""

from __future__ import annotations

import os

from torch import nn

from empirical.reading.networks import opened
from empirical.training.checkpoints import load_weights


def classifier_of(model: nn.Module) -> str:
    """Return the name of the layer that makes the logits: the last linear one.

    Raises
    ------
    ValueError
        `model` has no linear layer, or none after all others.

    Examples
    --------
    >>> from empirical.models import create_model
    >>> classifier_of(create_model("resnet18", classes=10, image_size=32, channels=3, width=0.25))
    'fc'
    """
    weighted = [
        (name, module)
        for name, module in model.named_modules()
        if any(parameter.ndim > 1 for parameter in module.parameters(recurse=False))
    ]
    if not weighted or not isinstance(weighted[-1][1], nn.Linear):
        last = weighted[-1][0] if weighted else "none"
        raise ValueError(
            "model must end in a linear layer, its classifier, for its backbone to be told from "
            f"it; its last layer with weights is {last!r}. Load its weights yourself, by "
            "load_weights, and leave backbone_rate at 1."
        )
    name: str = weighted[-1][0]
    return name


def load_backbone(model: nn.Module, path: str | os.PathLike[str]) -> str:
    """Load all weights of a checkpoint but the classifier's, whose classes may be others.

    Parameters
    ----------
    model
        The network; its classifier stays as it is.
    path
        A file as `load_weights` takes it, of the same network.

    Returns
    -------
    str
        Name of the classifier.

    Raises
    ------
    FileNotFoundError, ValueError
        As `load_weights`; and for a model that does not end in a linear layer.
    """
    network = opened(model)
    name = classifier_of(network)
    load_weights(network, path, keep=f"{name}.")
    return name
