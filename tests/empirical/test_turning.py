"""Filters that keep their directions in training, and behind a norm learn nothing."""

import pytest
import torch
from torch import nn
from torch.nn import functional

from empirical.data.loading import load_data
from empirical.models import ModelSpec
from empirical.training.recipes import Recipe
from empirical.training.trainer import train
from empirical.training.turning import filters_of, keep_directions

SPEC = ModelSpec("small_convnet", classes=10, image_size=8, channels=1)
SHORT = Recipe(epochs=1, batch_size=100)


def cosines(model, other):
    return torch.cat(
        [
            functional.cosine_similarity(a.detach().flatten(1), b.detach().flatten(1))
            for a, b in zip(filters_of(model), filters_of(other), strict=True)
        ]
    )


@pytest.mark.parametrize("turning", [True, False])
def test_filters_turn_or_keep_their_directions(turning):
    trained = SPEC.build(0)
    train(trained, load_data("digits")[0], recipe=SHORT.but(turning=turning), seed=0)
    start = SPEC.build(0)
    turned = (1 - cosines(trained, start)).abs()
    assert turned.max() > 0.05 if turning else turned.max() < 1e-5
    head, first = trained.classifier.weight, start.classifier.weight
    assert (head - first).abs().max() > 0.01  # which learns in either case


def gradients(norm):
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(3, 5, 3), norm, nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(5, 4)
    )
    images, labels = torch.randn(20, 3, 6, 6), torch.randint(4, (20,))
    functional.cross_entropy(model.double()(images.double()), labels).backward()
    return model, model[0].weight.grad.clone()


def test_behind_a_norm_the_gradient_is_residualized_and_nothing_of_it_is_left():
    model, whole = gradients(nn.BatchNorm2d(5, eps=1e-14))
    keep_directions(filters_of(model))
    assert whole.abs().max() > 1e-3
    assert model[0].weight.grad.abs().max() < 1e-12
    assert model[5].weight.grad.abs().max() > 1e-3


def test_without_a_norm_the_part_along_each_filter_is_left():
    model, whole = gradients(nn.Identity())
    with torch.no_grad():
        model[0].weight[2].zero_()
    keep_directions(filters_of(model))
    left, weights = model[0].weight.grad, model[0].weight.detach()
    for channel in range(5):
        w, g = weights[channel].flatten(), whole[channel].flatten()
        expected = torch.zeros_like(w) if channel == 2 else w * (w @ g) / (w @ w)
        torch.testing.assert_close(left[channel].flatten(), expected)
