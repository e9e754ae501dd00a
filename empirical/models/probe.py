"""Does a network fit a set of images? Asked once, before hours are spent."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from empirical.data.images import ImageSet


@torch.no_grad()
def check_logits(model: nn.Module, image_set: ImageSet) -> None:
    """Say what is wrong if `model` does not map two images to two rows of logits.

    Raises
    ------
    TypeError
        If the model returns something else than one tensor, such as a tuple.
    ValueError
        If it cannot read images of this shape, or has another number of classes.
    """
    parameter = next(model.parameters(), None)
    device = torch.device("cpu") if parameter is None else parameter.device
    images = image_set.normalize(image_set.images[:2]).to(device)
    was_training = model.training
    model.eval()
    try:
        logits = model(images)
    except RuntimeError as error:
        raise ValueError(
            f"model {type(model).__name__} cannot read images of shape {tuple(images.shape[1:])} "
            f"({error}). Choose another image_size, or another number of input channels."
        ) from error
    finally:
        model.train(was_training)
    if not isinstance(logits, Tensor):
        raise TypeError(
            f"model must return logits, one tensor of shape (n, {image_set.classes}); it returned "
            f"{type(logits).__name__}. Wrap it so that only the logits come back."
        )
    if logits.shape != (len(images), image_set.classes):
        raise ValueError(
            f"model must return one logit for each of the {image_set.classes} classes of "
            f"{image_set.name}; its output for 2 images has shape {tuple(logits.shape)}. Build it "
            f"with classes={image_set.classes}, or name the data that it was trained on."
        )
