import numpy as np
import pytest
import torch

from empirical import measure
from empirical.measuring.targets import evaluate_target, first_component, target_function
from theory.moments import Moments

LOGITS = torch.tensor([[1.0, 4.0, 2.0], [0.0, -1.0, -5.0]])
LABELS = torch.tensor([2, 0])


def evaluated(function, logits=LOGITS, labels=LABELS):
    return evaluate_target(target_function(function), logits, labels, int(labels.max()))


def test_targets_by_hand():
    def value(name):
        return evaluated(name).tolist()

    assert value("true_logit") == [[2.0], [0.0]]
    assert value("logit_margin") == [[-2.0], [1.0]]
    assert value("label") == [[0.0, 0.0, 1.0], [1.0, 0.0, 0.0]]
    assert value("logit_pc1") == LOGITS.tolist()


def test_user_function_may_return_a_vector_or_a_matrix():
    assert evaluated(lambda z, y: z[:, 0]).shape == (2, 1)
    assert evaluated(lambda z, y: z[:, :2]).shape == (2, 2)


def test_first_component_is_that_of_the_logits():
    rng = np.random.default_rng(0)
    logits = rng.standard_normal((200, 4)) @ np.diag([1, 5, 2, 0.1]) @ rng.standard_normal((4, 4))
    moments = Moments.from_samples(rng.standard_normal((200, 3)), logits)
    centered = logits - logits.mean(0)
    expected = np.linalg.svd(centered, full_matrices=False)[2][0]
    found = first_component(moments)[:, 0]
    assert abs(found @ expected) == pytest.approx(1, abs=1e-12)
    assert found[np.abs(found).argmax()] > 0


@pytest.mark.parametrize(
    ("function", "logits", "labels", "message"),
    [
        ("true_logit", (LOGITS, LOGITS), LABELS, "returned a tuple. Wrap it"),
        ("true_logit", LOGITS[:, None], LABELS, r"returned shape \(2, 1, 3\)"),
        ("true_logit", LOGITS[:, :1], LABELS * 0, "at least 2 classes"),
        ("true_logit", LOGITS, LABELS + 1, "gives 3 and the model has 3 outputs"),
        (lambda z, y: z.sum(), LOGITS, LABELS, r"must return a tensor .*got \(\)"),
        (lambda z, y: 3.0, LOGITS, LABELS, "got float"),
    ],
)
def test_bad_targets_are_named(function, logits, labels, message):
    with pytest.raises((TypeError, ValueError), match=message):
        evaluated(function, logits, labels)


def test_a_target_that_is_not_finite_is_named_with_its_batch():
    model = torch.nn.Sequential(torch.nn.Linear(4, 5), torch.nn.Tanh(), torch.nn.Linear(5, 3))
    images, labels = torch.randn(30, 4), torch.arange(30) % 3

    def broken(logits, labels):
        return logits[:, 0] / (len(labels) - 10)

    with pytest.raises(ValueError, match=r"target must be finite; .* on batch 1"):
        measure(model, [(images[:20], labels[:20]), (images[20:], labels[20:])], target=broken)
