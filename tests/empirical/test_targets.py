import numpy as np
import pytest
import torch

from empirical.measuring.targets import evaluate_target, first_component, target_function
from theory.moments import Moments

LOGITS = torch.tensor([[1.0, 4.0, 2.0], [0.0, -1.0, -5.0]])
LABELS = torch.tensor([2, 0])


def test_targets_by_hand():
    def value(name):
        return evaluate_target(target_function(name), LOGITS, LABELS).tolist()

    assert value("true_logit") == [[2.0], [0.0]]
    assert value("logit_margin") == [[-2.0], [1.0]]
    assert value("label") == [[0.0, 0.0, 1.0], [1.0, 0.0, 0.0]]
    assert value("logit_pc1") == LOGITS.tolist()


def test_user_function_may_return_a_vector_or_a_matrix():
    assert evaluate_target(lambda z, y: z[:, 0], LOGITS, LABELS).shape == (2, 1)
    assert evaluate_target(lambda z, y: z[:, :2], LOGITS, LABELS).shape == (2, 2)


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
        ("true_logit", LOGITS * float("inf"), LABELS, "target must be finite"),
        (lambda z, y: z.sum(), LOGITS, LABELS, r"must return a tensor .*got \(\)"),
        (lambda z, y: 3.0, LOGITS, LABELS, "got float"),
    ],
)
def test_bad_targets_are_named(function, logits, labels, message):
    with pytest.raises((TypeError, ValueError), match=message):
        evaluate_target(target_function(function), logits, labels)


def test_unknown_target_names_the_nearest():
    with pytest.raises(ValueError, match=r"got 'margin'\. Did you mean 'logit_margin'"):
        target_function("margin")
