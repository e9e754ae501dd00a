"""Every kind of value is right or refused: argument, value, remedy."""

from decimal import Decimal
from fractions import Fraction

import numpy as np
import pytest
import torch

from theory import Moments, channel_axes, shrink
from theory.moments import trusted_moments
from theory.shared.validation import count, finite_array, positive

NOT_A_NUMBER = [
    None, "3", "three", np.nan, np.inf, -np.inf, True, np.True_, [3], (3,), {}, 3j, Decimal(3),
    np.arange(3), np.array(3), torch.tensor(3), torch.ones(2), -1, object(), len,
]  # fmt: skip


@pytest.mark.parametrize("value", NOT_A_NUMBER, ids=lambda value: type(value).__name__)
@pytest.mark.parametrize("check", [count, positive])
def test_what_is_no_number_is_refused_by_name(check, value):
    with pytest.raises((TypeError, ValueError), match=r"^width must be .*; got "):
        check("width", value)


def test_numbers_of_every_type_are_numbers():
    for three in (3, 3.0, np.int8(3), np.uint64(3), np.float32(3), Fraction(3)):
        assert count("n", three) == positive("n", three) == 3
        assert type(count("n", three)) is int
    assert count("n", 10**400) == 10**400
    for value, message in (
        (10**12, "and <= 100, to fit into memory; got 1000000000000"),
        (2.5, "got 2.5"),
    ):
        with pytest.raises((TypeError, ValueError), match=message):
            count("null", value, most=100)
    with pytest.raises(ValueError, match=r"n must be > 0 and finite; got 10{20,}"):
        positive("n", 10**400)


@pytest.mark.parametrize(
    "value",
    [
        [[1, 2], [3, 4]],
        np.array([[1, 2], [3, 4]], dtype=np.float16),
        np.ma.masked_array([[1, 2], [3, 4]], mask=False),
        torch.tensor([[1, 2], [3, 4]]),
        torch.tensor([[1.0, 2], [3, 4]], dtype=torch.bfloat16),
        torch.tensor([[1.0, 2], [3, 4]], requires_grad=True),
    ],
)
def test_arrays_of_every_real_type_are_their_numbers(value):
    array = finite_array("y", value, ndim=2)
    assert array.dtype == np.float64
    np.testing.assert_array_equal(array, [[1, 2], [3, 4]])


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (np.ones((2, 2)) * 1j, "y must be an array of real numbers; got .* of dtype complex128"),
        (
            torch.ones(2, 2, dtype=torch.complex64),
            "y must be an array of real numbers; .* complex64",
        ),
        (np.ma.masked_array(np.ones((2, 2)), mask=np.eye(2)), "no masked entries; got 2 of them"),
        (np.array([[Fraction(1), 2]], dtype=object), "of dtype object. Pass floats"),
        ([["1", "2"]], "y must be an array of real numbers"),
        ([[1.0], [1.0, 2.0]], "y must be an array of real numbers"),
        (None, "y must be an array of real numbers; got None"),
        ([[np.longdouble("1e400")]], "y must be finite; 1 entries are not"),
    ],
)
def test_arrays_that_are_not_real_are_refused(value, message):
    with pytest.raises((TypeError, ValueError), match=message):
        Moments.from_samples(value)


@pytest.mark.parametrize("scale", [1e-170, 1e-155, 1e155, 1e300])
def test_scales_whose_squares_double_precision_does_not_hold(scale):
    y = np.random.default_rng(0).standard_normal((20, 3))
    y[:, 1] *= scale
    with pytest.raises(ValueError, match=r"y must have deviations .* column 1 has .* Divide"):
        Moments.from_samples(y)
    with pytest.raises(ValueError, match=r"t must have deviations .* column 0 has .* Divide"):
        Moments.from_samples(y[:, :1], y[:, 1])


@pytest.mark.parametrize("variance", [1e-310, 1e-290, 1e290, 1e308])
def test_variances_that_double_precision_does_not_divide_by(variance):
    with pytest.raises(ValueError, match=r"variances between .*; channel 1 has .* Divide"):
        channel_axes(Moments.from_covariance(np.diag([1.0, variance, 1.0])))
    with pytest.raises(ValueError, match="target 0 has"):
        channel_axes(Moments.from_covariance(np.diag([1.0, 1.0, variance])))


@pytest.mark.parametrize("scale", [1e-130, 1e130])
def test_scales_inside_change_nothing(scale):
    rng = np.random.default_rng(1)
    y = rng.standard_normal((50, 3)) + 2
    plain, scaled = (channel_axes(Moments.from_samples(z, y.sum(1) ** 2)) for z in (y, y * scale))
    for name in ("peer_predictability", "peer_overlap", "task_information", "target_excess"):
        np.testing.assert_allclose(getattr(scaled, name), getattr(plain, name), rtol=1e-12)


@pytest.mark.parametrize("offset", [1e-150, 1e-100, 1.0])
def test_a_constant_channel_is_dead_at_any_scale(offset):
    y = np.random.default_rng(2).standard_normal((50, 3))
    y[:, 1] = offset / 3
    assert channel_axes(Moments.from_samples(y)).affected == {"dead": (1,)}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((np.zeros(2), np.array([[1.0, 2.0], [2.0, 1.0]]), 0, 5), "semidefinite"),
        ((np.zeros(2), np.array([[1.0, np.nan], [np.nan, 1.0]]), 0, 5), "cov must be finite"),
        ((np.zeros(3), np.eye(2), 0, 5), "mean must have length 2"),
        ((np.zeros(2), np.eye(2), 2, 5), "n_targets must leave at least one channel"),
        ((np.zeros(2), np.eye(2), 0, np.nan), "n must be a whole number >= 1; got nan"),
        ((np.zeros(2), np.eye(2), None, 5), "n_targets must be a whole number >= 0; got None"),
    ],
)
def test_moments_built_directly_are_checked(arguments, message):
    with pytest.raises((TypeError, ValueError), match=message):
        Moments(*arguments)


def test_moments_built_directly_are_those_built_by_name():
    one = Moments([1, 2], [[2, 1], [1, 2]], 0, 5)
    assert one.mean.dtype == one.cov.dtype == np.float64
    trusted = trusted_moments(one.mean, one.cov, 0, 5)
    assert trusted.cov is one.cov
    assert (trusted.n, trusted.n_channels) == (5, 2)
    np.testing.assert_array_equal((trusted + one).mean, one.mean)


def test_channels_are_selected_by_a_mask_as_by_indices():
    moments = Moments.from_covariance(np.diag([1.0, 2.0, 3.0, 4.0, 5.0]))
    mask = [True, False, False, True]
    for channels in (mask, np.array(mask), [0, 3], np.uint8([0, 3])):
        np.testing.assert_array_equal(np.diagonal(moments.select(channels).cov), [1, 4, 5])
    for wrong in ([True, False], [False] * 4, [0.0, 1.0], [None], np.array(["a"])):
        with pytest.raises(ValueError, match="channels must be indices from 0 to 3, or a mask of"):
            moments.select(wrong)


def test_dead_channels_do_not_count_for_the_shrinkage_of_the_others():
    rng = np.random.default_rng(3)
    y = rng.standard_normal((30, 10))
    dead = np.column_stack([y[:, :5], np.full((30, 40), 0.1), y[:, 5:]])
    plain, beside = (shrink(Moments.from_samples(z)) for z in (y, dead))
    live = np.r_[:5, 45:50]
    np.testing.assert_allclose(beside.cov[np.ix_(live, live)], plain.cov, rtol=1e-12)
