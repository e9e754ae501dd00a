"""What double precision decides of nearly singular layers and nearly determined targets."""

import mpmath
import numpy as np
import pytest
import scipy

from tests.tolerances import EXACT
from theory import TARGET_AXIS, Moments, channel_axes
from theory._conditional import TRUSTED, conditional_information
from theory._precision import Precision
from theory.pairs import pairwise_excess
from theory.standardize import standardize


def exact_conditional(y, t):
    """I(T; Y_i | Y_-i) of the samples as they are, with 60 digits."""
    n, c = y.shape
    with mpmath.workdps(60):
        joint = mpmath.matrix(np.column_stack([y, t]).tolist())
        for j in range(c + 1):
            mean = mpmath.fsum(joint[:, j]) / n
            for i in range(n):
                joint[i, j] -= mean
        p = (joint.T * joint) ** -1
        return [float(-mpmath.log(1 - p[i, c] ** 2 / (p[i, i] * p[c, c])) / 2) for i in range(c)]


@pytest.mark.parametrize("smallest", [1e-6, 1e-8, 1e-9, 1e-10, 1e-11])
@pytest.mark.parametrize("noise", [1.0, 1e-3, 1e-5])
def test_conditional_information_has_three_digits_or_is_undecided(smallest, noise):
    rng = np.random.default_rng(0)
    basis, _ = np.linalg.qr(rng.standard_normal((5, 5)))
    y = rng.standard_normal((60, 5)) * np.sqrt([1, 1, 1, 1, smallest]) @ basis.T
    t = y @ rng.standard_normal(5) + noise * rng.standard_normal(60)
    axes = channel_axes(Moments.from_samples(y, t))
    found, exact = axes.conditional_task_information, np.array(exact_conditional(y, t))
    undecided = axes.affected.get("undecided", ())
    assert tuple(np.flatnonzero(np.isnan(found))) == undecided
    decided = np.isfinite(found)
    error = np.abs(found - exact)[decided]
    assert (error <= TRUSTED * np.maximum(exact[decided], 1e-6)).all()
    if smallest >= 1e-8 and noise == 1.0:
        assert not undecided


EPS = 32 * np.finfo(float).eps
"""Rounding of an entry of R and of G."""


def layer(x, unexplained, diagonal, norms, collinear=(False, False)):
    """Two channels and one target of this unexplained share, regressed with coefficients x, -x."""
    coefficients, c = np.array([[x], [-x]]), (1 - unexplained) / x
    inverse = Precision(
        np.where(collinear, np.inf, diagonal), coefficients, np.array(norms),
        np.array(collinear), np.arange(2),
    )  # fmt: skip
    return np.array([[c], [0.0]]), inverse


@pytest.mark.parametrize("x", [0.01, 1.0, 1000.0])
@pytest.mark.parametrize(("share", "determined"), [(0.99, True), (1.01, False)])
@pytest.mark.parametrize("of_target", [0.0, 1e-6])
def test_a_target_is_determined_where_rounding_is_all_there_is(x, share, determined, of_target):
    """ε (1 + ‖X‖)², and what is known of the target's own rounding."""
    limit = EPS * (1 + np.sqrt(2) * x) ** 2 + of_target
    if limit < 1e-12:  # 1 - (1 - S) keeps no two digits of it
        share = {0.99: 0.5, 1.01: 2.0}[share]
    arguments = layer(x, share * limit, 4.0, [1.0, 0.0], (False, True))
    found, unknown, undecided = conditional_information(*arguments, of_target)
    assert unknown.tolist() == [determined, False]
    assert found[1] == 0.0
    assert np.isnan(found[0]) == (determined or undecided[0])
    assert not undecided[1]


@pytest.mark.parametrize(("x", "s"), [(3e-4, 0.5), (1.0, 0.5), (30.0, 0.5), (2e-7, 1e-10)])
@pytest.mark.parametrize(("share", "undecided"), [(0.97, False), (1.03, True)])
def test_a_channel_is_undecided_where_rounding_takes_its_third_digit(x, s, share, undecided):
    """δv of v = b²/(S P): both factors' roundings, 2 √v a t + v (a² + t²), each times ε/2."""
    diagonal = 4.0
    v = x**2 / s / diagonal
    information, t = 0.5 * np.log1p(v), (1 + np.sqrt(2) * x) / np.sqrt(s)
    allowed = share * 1e-3 * max(information, 1e-6)
    assert (information < 1e-6) == (x == 3e-4)  # where a millionth of a nat is what counts

    def excess(a):
        return 0.5 * EPS / (1 + v) * (2 * np.sqrt(v) * a * t + v * (a**2 + t**2)) - allowed

    a = scipy.optimize.brentq(excess, 0.0, 1e16)
    found, unknown, which = conditional_information(*layer(x, s, diagonal, [a * 2.0, 1.0]))
    assert which.tolist() == [undecided, False]
    assert not unknown.any()
    np.testing.assert_allclose(
        found, [np.nan if undecided else information, information], rtol=1e-5
    )


def apart(x, unexplained, norms=(0.0, 0.0)):
    """Two channels, each of which alone explains one of two targets, up to these shares."""
    x, s = np.array(x), np.array(unexplained)
    inverse = Precision(
        np.full(2, 4.0), np.diag(x), np.array(norms), np.zeros(2, dtype=bool), np.arange(2)
    )
    return conditional_information(np.diag((1 - s) / x), inverse)


@pytest.mark.parametrize("order", [1, -1])
def test_each_target_has_its_own_rounding_and_one_that_is_determined_is_enough(order):
    """ε (1 + 1000)² is 7e-9, ε (1 + 0.01)² is 7e-15."""
    found, unknown, undecided = apart([1000.0, 0.01][::order], [0.5, 1e-11][::order])
    assert not unknown.any()
    np.testing.assert_array_equal(np.isnan(found), undecided)
    _, unknown, _ = apart([1000.0, 0.01][::order], [1e-9, 0.5][::order])
    assert unknown.all()


@pytest.mark.parametrize(("share", "undecided"), [(0.97, False), (1.03, True)])
@pytest.mark.parametrize("order", [1, -1])
def test_the_worst_known_target_decides(share, undecided, order):
    """Channels without rounding of their own: v t² ε/2 / (1 + v), t of the target left least."""
    x = 1.0

    def excess(log_s):
        s = np.exp(log_s)
        v = x**2 / s / 4.0
        return 0.5 * EPS / (1 + v) * v * (1 + x) ** 2 / s - share * 1e-3 * 0.5 * np.log1p(v)

    s = np.exp(scipy.optimize.brentq(excess, np.log(1e-13), np.log(1e-9)))
    found, unknown, which = apart([x, 1e-3][::order], [s, 0.5][::order])
    assert not unknown.any()
    assert which[::order][0] == np.isnan(found[::order][0]) == undecided


def test_as_many_channels_as_degrees_of_freedom_determine_any_target():
    rng = np.random.default_rng(1)
    for _ in range(300):
        c, q = int(rng.integers(2, 40)), int(rng.integers(1, 4))
        y, t = rng.standard_normal((c + 1, c)), rng.standard_normal((c + 1, q))
        axes = channel_axes(Moments.from_samples(y, t), hull=False)
        assert np.isnan(axes.conditional_task_information).all()
        assert axes.affected["target_determined"] == tuple(range(c))
        order = rng.permutation(c)
        again = channel_axes(Moments.from_samples(y[:, order], t), hull=False)
        assert again.affected == axes.affected


def test_targets_that_are_nearly_one_are_known_up_to_their_own_rounding():
    """Three samples: each of two channels' rank 2 spans whatever three targets say."""
    rng = np.random.default_rng(3)
    for _ in range(200):
        y, apart = rng.standard_normal((3, 3)), 10.0 ** rng.uniform(-4, -2)
        t = np.array([[1, 1 + apart], [-1, apart - 1], [0, -2 * apart]])
        axes = channel_axes(Moments.from_samples(y, t))
        assert np.isnan(axes.task_information).all()
        assert axes.affected["target_determined"] == (0, 1, 2)


def test_redundancy_and_unique_of_a_channel_that_determines_the_target():
    """min(I, ∞) = I: its peers have what they have, and nothing that it lacks."""
    cov = np.array([[1, 0.3, 0.5, 1], [0.3, 1, 0, 0.3], [0.5, 0, 1, 0.5], [1, 0.3, 0.5, 1]])
    axes = channel_axes(Moments.from_covariance(cov))
    one, two = -0.5 * np.log(1 - 0.09), -0.5 * np.log(1 - 0.25)
    expected = [(one + two) / 2, (one + min(one, two)) / 2, (two + one) / 2]
    np.testing.assert_allclose(axes.task_redundancy, expected, atol=EXACT)
    np.testing.assert_allclose(axes.task_unique, [np.nan, 0, (two - one) / 2], atol=EXACT)


@pytest.mark.parametrize("peers", [1, 10, 50])
def test_peers_that_tie_all_count_whatever_the_order(peers):
    rng = np.random.default_rng(1)
    c = 120
    cov = np.eye(c + 1)  # every overlap is 0
    cov[:c, c] = cov[c, :c] = rng.uniform(0, 0.08, c)
    order = np.append(rng.permutation(c), c)
    axes = channel_axes(Moments.from_covariance(cov), peers=peers)
    again = channel_axes(Moments.from_covariance(cov[np.ix_(order, order)]), peers=peers)
    every = channel_axes(Moments.from_covariance(cov), peers=c)
    for name in TARGET_AXIS:
        np.testing.assert_allclose(getattr(again, name), getattr(axes, name)[order[:c]], atol=EXACT)
    np.testing.assert_allclose(axes.task_redundancy, every.task_redundancy, atol=EXACT)


@pytest.mark.parametrize("apart", [1e-2, 1e-4, 1e-5])
def test_the_excess_of_near_copies_for_several_targets(apart):
    """Y_2 = Y_1 + δ N, T = (Y_1 + M, N + L): against 40 digits, from the same samples."""
    rng = np.random.default_rng(2)
    a, b, m, e = rng.standard_normal((4, 50))
    y, t = np.column_stack([a, a + apart * b]), np.column_stack([a + m, b + e])
    moments = Moments.from_samples(y, t)
    layer = standardize(moments)
    explained = (layer.loadings**2).sum(axis=1)
    pair = np.array([[1], [0]])
    found = pairwise_excess(layer.correlation, layer.loadings, explained, pair)[:, 0]
    with mpmath.workdps(40):
        joint = mpmath.matrix((np.column_stack([y, t])).tolist())
        for j in range(4):
            mean = mpmath.fsum(joint[:, j]) / 50
            for i in range(50):
                joint[i, j] -= mean
        k = joint.T * joint

        def information(channels):
            def logdet(index):
                return mpmath.log(
                    mpmath.det(mpmath.matrix([[k[i, j] for j in index] for i in index]))
                )

            return (logdet(channels) + logdet([2, 3]) - logdet([*channels, 2, 3])) / 2

        exact = float(information([0, 1]) - max(information([0]), information([1])))
    # R carries a few roundings, and 1 - R² is apart²
    np.testing.assert_allclose(found, exact, rtol=16 * np.finfo(float).eps / apart**2)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"ridge": 1e17}, "ridge must be at most 1e\\+06; got 1e\\+17. Lower it"),
        ({"ridge": np.inf}, "ridge must be >= 0 and finite; got inf"),
        ({"ridge": None}, "ridge must be >= 0 and finite; got None"),
        ({"peers": None}, "peers must be a whole number >= 1; got None"),
        ({"peers": np.inf}, "peers must be a whole number >= 1; got inf"),
        ({"top": np.nan}, "top must be a whole number >= 1; got nan"),
        ({"top": True}, "top must be a whole number >= 1; got True"),
        ({"noise": None}, "noise must be > 0 and finite; got None"),
    ],
)
def test_arguments_at_the_edge(arguments, message):
    moments = Moments.from_covariance(np.eye(4))
    with pytest.raises((TypeError, ValueError), match=message):
        channel_axes(moments, **arguments)


def test_the_largest_ridge_keeps_nine_digits():
    moments = Moments.from_covariance([[1, 0.5, 0], [0.5, 1, 0], [0, 0, 1]])
    found = channel_axes(moments, ridge=1e6).peer_predictability
    np.testing.assert_allclose(found, 0.25 / (1 + 1e6), atol=1e-9)


@pytest.mark.parametrize(("apart", "decided"), [(1e-4, True), (1e-6, False)])
def test_the_excess_of_near_copies_is_right_or_undecided(apart, decided):
    """T = N says ½ log 2 of Y_2 = Y_1 + δ N beside Y_1; at δ = 1e-6 rounding says as much."""
    cov = np.array([[1, 1, 0], [1, 1 + apart**2, apart], [0, apart, 2]])
    axes = channel_axes(Moments.from_covariance(cov))
    assert axes.affected.get("undecided", ()) == (() if decided else (0, 1))
    expected = 0.5 * np.log(2) if decided else np.nan
    np.testing.assert_allclose(axes.target_excess, expected, rtol=TRUSTED)
    assert "target_determined" not in axes.affected
