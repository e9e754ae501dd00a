import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

from empirical.measuring.gradients import gradient_cosines
from empirical.reading.hooks import evaluating


def cosines_by_differentiation(weight, sigma, c, variance):
    """Gradients of both informations by automatic differentiation."""
    result = []
    for w in weight:
        w = w.clone().requires_grad_()
        power, b = w @ sigma @ w, w @ c
        captured = 0.5 * torch.log(1 + power / 0.7)
        task = -0.5 * torch.log(1 - b**2 / (power * variance))
        one, two = (
            torch.autograd.grad(value, w, retain_graph=True)[0] for value in (captured, task)
        )
        result.append(functional.cosine_similarity(one, two, dim=0).item())
    return np.array(result)


@pytest.mark.parametrize("groups", [1, 2])
def test_cosines_equal_automatic_differentiation(groups):
    generator = torch.Generator().manual_seed(0)
    images = torch.randn(30, 4, 6, 6, generator=generator, dtype=torch.float64).cumsum(3)
    labels = torch.randint(3, (30,), generator=generator)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        conv = nn.Conv2d(4, 6, 3, padding=1, groups=groups)
        model = nn.Sequential(conv, nn.ReLU(), nn.Flatten(), nn.Linear(216, 3)).double()
    with evaluating(model):
        t = model(images)[:, 0].repeat_interleave(36)
        rows = functional.unfold(images, 3, padding=1).movedim(1, 2).flatten(0, 1)
    expected = []
    d = 36 // groups
    for block, weight in enumerate(conv.weight.detach().flatten(1).chunk(groups)):
        x = rows[:, block * d : (block + 1) * d]
        joint = torch.cov(torch.column_stack([x, t]).T)
        expected.append(
            cosines_by_differentiation(weight, joint[:-1, :-1], joint[:-1, -1], joint[-1, -1])
        )
    loader = [(images[:13], labels[:13]), (images[13:], labels[13:])]
    found = gradient_cosines(model, loader, target=lambda z, y: z[:, 0], positions=36, groups=5)
    np.testing.assert_allclose(found.cosines["0"], np.concatenate(expected), rtol=1e-9)
    assert found.dimensions == {"0": d}


def test_isotropic_inputs_give_orthogonal_gradients():
    """Σ ∝ I: the residualized direction is orthogonal to w, and so to Σw; up to sampling."""
    generator = torch.Generator().manual_seed(0)
    images = torch.randn(4000, 12, generator=generator)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = nn.Sequential(nn.Linear(12, 8), nn.Tanh(), nn.Linear(8, 3))
    labels = torch.zeros(4000, dtype=torch.long)
    found = gradient_cosines(model, [(images, labels)], target="true_logit")
    frame = found.to_frame()
    assert np.abs(frame.cosine).max() < 0.1
    assert (np.abs(frame.cosine) < 5 * frame.cosine_se).all()
    # and in the same network an anisotropic input does not
    skewed = images * torch.logspace(0, 1.5, 12)
    other = gradient_cosines(model, [(skewed, labels)], target="true_logit").by_layer()
    assert other.mean_absolute_cosine[0] > 0.2


def test_replicates_are_computed_without_one_group():
    images = torch.randn(24, 5, generator=torch.Generator().manual_seed(2)).double()
    labels = torch.zeros(24, dtype=torch.long)
    model = nn.Sequential(nn.Linear(5, 4), nn.Tanh(), nn.Linear(4, 3)).double()
    options = {"target": "true_logit", "groups": 3}
    found = gradient_cosines(model, [(images, labels)], **options)
    for group in range(3):
        keep = torch.arange(24) % 3 != group
        rest = gradient_cosines(model, [(images[keep], labels[keep])], **options)
        np.testing.assert_allclose(found.replicates["0"][group], rest.cosines["0"], rtol=1e-9)


def test_bad_arguments_are_named():
    images, labels = torch.randn(8, 3, 8), torch.zeros(8, dtype=torch.long)
    model = nn.Sequential(nn.Conv1d(3, 4, 3), nn.Flatten(), nn.Linear(24, 3))
    with pytest.raises(ValueError, match="layers must be Conv2d or Linear; '0' is Conv1d"):
        gradient_cosines(model, [(images, labels)])
    linear = nn.Sequential(nn.Flatten(), nn.Linear(24, 4), nn.ReLU(), nn.Linear(4, 3))
    with pytest.raises(ValueError, match=r"target must be scalar .* got 3 columns"):
        gradient_cosines(linear, [(images, labels)], target="label")
    with pytest.raises(ValueError, match="at least groups = 10 images; got 8"):
        gradient_cosines(linear, [(images, labels)])
