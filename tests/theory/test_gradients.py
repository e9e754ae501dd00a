"""The catalogue's gradients against torch's automatic differentiation, and their orthogonality."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch

from theory import catalogue
from theory.formulas import _points

LAYERS = 100
TOLERANCE = 1e-9
"""Relative: float64 automatic differentiation at condition numbers up to 1e4."""


def information(x: torch.Tensor, s: torch.Tensor, c: torch.Tensor, tau: float) -> torch.Tensor:
    return -0.5 * torch.log(1 - (x @ c) ** 2 / (x @ s @ x * tau**2))


def pair(x: torch.Tensor, v: torch.Tensor, s: torch.Tensor, c: torch.Tensor, tau: float):  # type: ignore[no-untyped-def]
    layer = torch.stack([x, v])
    k = layer @ c
    return -0.5 * torch.log(1 - k @ torch.linalg.solve(layer @ s @ layer.T, k) / tau**2)


def excess(x: torch.Tensor, v: torch.Tensor, s: torch.Tensor, c: torch.Tensor, tau: float):  # type: ignore[no-untyped-def]
    alone = torch.maximum(information(x, s, c, tau), information(v, s, c, tau))
    return pair(x, v, s, c, tau) - alone


def autograd(function: Callable[[torch.Tensor], torch.Tensor], w: np.ndarray) -> np.ndarray:
    x = torch.tensor(w, requires_grad=True)
    (slope,) = torch.autograd.grad(function(x), x)
    return slope.numpy()


@pytest.mark.parametrize("layer", range(LAYERS))
def test_gradients_agree_with_autograd(layer: int) -> None:
    rng = np.random.default_rng(layer)
    d = int(rng.integers(2, 12))
    sigma, c, tau = _points.input_and_target(rng, d)
    w, v = rng.standard_normal((2, d))
    noise = float(rng.uniform(0.5, 2))
    s, cc, vv = torch.tensor(sigma), torch.tensor(c), torch.tensor(v)
    forms = catalogue()
    cases = {
        "capture_gradient": (
            forms["capture_gradient"](Sigma=sigma, w=w, sigma_0=noise),
            lambda x: 0.5 * torch.log(1 + x @ s @ x / noise**2),
        ),
        "task_gradient": (
            forms["task_gradient"](Sigma=sigma, w=w, c=c, tau=tau),
            lambda x: information(x, s, cc, tau),
        ),
        "overlap_gradient": (
            forms["overlap_gradient"](Sigma=sigma, w=w, v=v),
            lambda x: -0.5 * torch.log(1 - (x @ s @ vv) ** 2 / (x @ s @ x * (vv @ s @ vv))),
        ),
        "pair_information_gradient": (
            forms["pair_information_gradient"](Sigma=sigma, w=w, v=v, c=c, tau=tau),
            lambda x: pair(x, vv, s, cc, tau),
        ),
        "excess_gradient": (
            forms["excess_gradient"](Sigma=sigma, w=w, v=v, c=c, tau=tau),
            lambda x: excess(x, vv, s, cc, tau),
        ),
    }
    for name, (closed, function) in cases.items():
        automatic = autograd(function, w)
        gap = np.abs(np.asarray(closed) - automatic).max()
        assert gap <= TOLERANCE * max(1.0, np.abs(automatic).max()), name


def test_orthogonality_is_proven_for_any_size() -> None:
    form = catalogue()["residualized_direction"]
    general = {step.claim for step in form.derive(form.expr).steps if step.general and step.holds}
    assert "orthogonal to w, any d" in general
    assert "orthogonal to Σw in the Σ⁻¹ inner product" in general
    wrong = form.derive(2 * form.expr - form.expr.args[-1])
    assert wrong.status == "refuted"


def test_euclidean_cosine_is_zero_exactly_for_isotropic_inputs() -> None:
    rng = np.random.default_rng(3)
    w, c = rng.standard_normal((2, 5))
    cosine = catalogue()["gradient_cosine"]
    assert abs(cosine(Sigma=2.0 * np.eye(5), w=w, c=c)) < 1e-12
    assert abs(cosine(Sigma=np.diag([9.0, 1, 1, 1, 1]), w=w, c=c)) > 1e-3
