"""The local axis of a layer at random initialization, foretold from its input spectrum and width.

C filters w ~ N(0, s²I) on inputs with eigenvalues λ. What no peer explains of channel i is a form
w_iᵀQw_i in a matrix Q that w_i has no part in (leave one out). Given the peers its mean s² tr Q is
therefore the same for every channel: replaceability is born equal, and E_i = 1 − J_i(1 − E_i)/J_i
becomes a function of power where that form's spread is small. The mean of Q tends to λκ/(λ + κ),
with κ from Σ_j λ_j/(λ_j + κ) = C − 1 (the deterministic equivalent of a projection).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import scipy
from numpy.typing import ArrayLike

from theory._spectrum import RANK_TOLERANCE, STEP, log_grid, spectrum
from theory.axes import channel_axes
from theory.moments import Moments
from theory.rank_coupling import spearman
from theory.shared.validation import Float, count, finite_array, positive, real_array, within


@dataclass(frozen=True)
class Differentiation:
    """How far the channels of a layer have become unequal in what no peer supplies.

    Attributes
    ----------
    spread : standard deviation of J_i(1 − E_i) over its mean, across channels.
    rank_correlation : Spearman of E_i with J_i.
    channels : how many channels have both.
    """

    spread: float
    rank_correlation: float
    channels: int


def differentiation(power: ArrayLike, predictability: ArrayLike) -> Differentiation:
    """The spread of J(1 − E) across a layer, and the rank correlation of E with J.

    At initialization the spread is small and E follows the power (`initial_layer`); a layer that
    training has differentiated has a larger spread and a weaker rank correlation.

    Parameters
    ----------
    power : (C,) J_i.
    predictability : (C,) E_i; channels where either is NaN do not count.

    Raises
    ------
    ValueError
        shapes that differ, or a negative power.

    >>> differentiation([1.0, 2.0, 4.0], [0.5, 0.75, 0.875])
    Differentiation(spread=0.0, rank_correlation=1.0, channels=3)
    """
    j, e = real_array("power", power), real_array("predictability", predictability)
    if j.ndim != 1 or j.shape != e.shape:
        raise ValueError(
            f"power and predictability must be of one shape (C,); got {j.shape} and {e.shape}. "
            "Pass one value of each per channel."
        )
    known = np.isfinite(j) & np.isfinite(e)
    j, e = j[known], e[known]
    if (j < 0).any():
        raise ValueError(f"power must be >= 0; its smallest is {j.min():.3g}. Pass variances.")
    rest = j * (1 - e)
    if known.sum() < 3 or not rest.mean() > 0:
        return Differentiation(float("nan"), float("nan"), int(known.sum()))
    return Differentiation(float(rest.std() / rest.mean()), float(spearman(e, j)), int(known.sum()))


@dataclass(frozen=True, eq=False)
class InitialLayer:
    """The local axis of C random filters on inputs of a known spectrum. Build by `initial_layer`.

    Attributes
    ----------
    eigenvalues : (rank,) positive eigenvalues λ of the input covariance.
    width : C.
    scale : s, standard deviation of the weights.
    kappa : κ; 0 where C − 1 peers span all inputs.
    """

    eigenvalues: Float
    width: int
    scale: float
    kappa: float

    @property
    def unexplained(self) -> Float:
        """(rank,) λκ/(λ + κ): variance along each input direction that the peers leave."""
        share: Float = self.eigenvalues * self.kappa / (self.eigenvalues + self.kappa)
        return share

    @property
    def mean_power(self) -> float:
        """E J = s² Σλ, exactly."""
        return float(self.scale**2 * self.eigenvalues.sum())

    @property
    def residual(self) -> float:
        """Mean of J_i(1 − E_i) = 1/(K⁻¹)_ii: s² Σ λκ/(λ + κ)."""
        return float(self.scale**2 * self.unexplained.sum())

    @property
    def _gap(self) -> float:
        """1 − γ, γ = Σ(λ/(λ + κ))²/(C − 1): a projection's fluctuations beside its mean."""
        held = self.eigenvalues / (self.eigenvalues + self.kappa)
        return float(1 - np.sum(held**2) / (self.width - 1))

    @property
    def residual_spread(self) -> float:
        """Relative standard deviation of J_i(1 − E_i): √(2 tr Q²)/tr Q; NaN without residual."""
        left = self.unexplained
        if self.kappa == 0:
            return float("nan")
        return float(np.sqrt(2 * np.sum(left**2) / self._gap) / left.sum())

    @property
    def residual_power_correlation(self) -> float:
        """Correlation of J_i(1 − E_i) with J_i: tr QΛ/√(tr Q² tr Λ²); NaN without residual."""
        left, values = self.unexplained, self.eigenvalues
        if self.kappa == 0:
            return float("nan")
        square = np.sum(left**2) / self._gap
        return float(np.sum(left * values) / np.sqrt(square * np.sum(values**2)))

    @cached_property
    def power_shares(self) -> Float:
        """(rank,) s_j, mean share of a channel's power that lies along input direction j."""
        return _power_shares(self.eigenvalues)

    @property
    def mean_predictability(self) -> float:
        """E of E_i = 1 − E[wᵀQw/wᵀΛw] = Σ s_j λ_j/(λ_j + κ)."""
        held = self.eigenvalues / (self.eigenvalues + self.kappa)
        return float(np.sum(self.power_shares * held))

    @property
    def residual_slope(self) -> float:
        """Slope of J_i(1 − E_i) on J_i across channels, tr QΛ/tr Λ²: 0 in the limit of many."""
        left, values = self.unexplained, self.eigenvalues
        return float(np.sum(left * values) / np.sum(values**2))

    def predictability(self, power: ArrayLike) -> Float:
        """E as a function of power that the channels lie near: 1 − (r + β(J − E J))/J.

        r is `residual`, β `residual_slope`; 1 − r/J in the limit of many channels.
        """
        j = finite_array("power", power, ndim=(0, 1))
        if (j <= 0).any():
            raise ValueError(f"power must be > 0; its smallest is {j.min():.3g}. Pass variances.")
        rest = self.residual + self.residual_slope * (j - self.mean_power)
        found: Float = 1 - rest / j
        return found

    @property
    def squared_overlap(self) -> float:
        """E R_ij² of two channels, exactly: Σ s_j²."""
        return float(np.sum(self.power_shares**2))

    @property
    def mean_overlap(self) -> float:
        """Mean of −½ log(1 − R_ij²) in nats, for R² ~ Beta(½, (ν − 1)/2) with the mean 1/ν above.

        Exact for equal eigenvalues, where ν is their number.
        """
        nu = 1 / self.squared_overlap
        return float(0.5 * (scipy.special.psi(nu / 2) - scipy.special.psi((nu - 1) / 2)))

    def peers_needed(self, share: float = 0.95) -> int:
        """How many peers at random predict, in the mean, this share of what all peers do.

        A hull of chosen peers is smaller (`draw` a layer to measure it).
        """
        goal = within("share", share, "[0, 1]") * self.mean_predictability
        low, high = 0, self.width - 1
        while high - low > 1:
            middle = (low + high) // 2
            kappa = _fixed_point(self.eigenvalues, middle)
            held = self.eigenvalues / (self.eigenvalues + kappa)
            reached = np.sum(self.power_shares * held) >= goal
            low, high = (low, middle) if reached else (middle, high)
        return high

    def draw(self, seed: int = 0) -> Moments:
        """Population moments of one such layer with Gaussian filters, exact at any size.

        >>> from theory import channel_axes
        >>> layer = initial_layer(1 / np.arange(1, 65), 32)
        >>> drawn = [channel_axes(layer.draw(seed), hull=False) for seed in range(64)]
        >>> found = np.mean([axes.peer_predictability for axes in drawn])
        >>> bool(abs(found - layer.mean_predictability) < 0.02)
        True
        """
        rng = np.random.default_rng(count("seed", seed, least=0))
        size = (self.width, self.eigenvalues.size)
        filters = self.scale * rng.standard_normal(size) * np.sqrt(self.eigenvalues)
        return Moments.from_covariance(filters @ filters.T, n_targets=0)

    def differentiation(self, *, draws: int = 8, seed: int = 0) -> Differentiation:
        """Mean `differentiation` of layers so drawn: theory's point at step 0."""
        found = []
        for k in range(count("draws", draws)):
            axes = channel_axes(self.draw(seed + k), hull=False)
            found.append(differentiation(axes.signal_power, axes.peer_predictability))
        return Differentiation(
            float(np.mean([f.spread for f in found])),
            float(np.mean([f.rank_correlation for f in found])),
            self.width,
        )


def initial_layer(sigma: ArrayLike, width: int, *, scale: float = 1.0) -> InitialLayer:
    """Foretell the local axis of `width` filters w ~ N(0, scale² I) on inputs of covariance Σ.

    Nothing but the spectrum and the width enters E. Filters with other independent entries of the
    same variance change the spread alone (catalogue entry `residual_variance_given_peers`); so do
    not filters that see different inputs, as in grouped and depthwise convolutions.

    Parameters
    ----------
    sigma : (d, d) input covariance, or (d,) its eigenvalues. Of a convolution, that of its patches.
    width : C ≥ 2 channels.
    scale : s.

    Raises
    ------
    ValueError
        Σ not symmetric positive semidefinite or 0; a width below 2; a scale that is not positive.

    Source: catalogue entries of item T7. Proven: that each channel's mean residual given its peers
    is one number; everything at equal eigenvalues, with one peer, and at C > rank. Asymptotic in
    the dimension: that this number is Σ λκ/(λ + κ) (Silverstein and Bai 1995).

    >>> layer = initial_layer(np.ones(64), 17)
    >>> round(layer.residual, 6), round(layer.mean_predictability, 6)
    (48.0, 0.25)
    """
    size = count("width", width, least=2)
    values = spectrum(sigma, None, name=None, decompose=True).values
    values = np.sort(values[values > RANK_TOLERANCE * values.max()])[::-1]
    kappa = _fixed_point(values, size - 1)
    return InitialLayer(values, size, positive("scale", scale), kappa)


def _fixed_point(values: Float, peers: int) -> float:
    """κ with Σ λ/(λ + κ) = peers; 0 where the peers are as many as the rank."""
    if peers >= values.size:
        return 0.0

    def excess(log_kappa: float) -> float:
        return float(np.sum(values / (values + np.exp(log_kappa)))) - peers

    top = np.log(values.sum() / peers)  # λ/(λ + κ) < λ/κ
    bottom = np.log(values.min() / values.size) - 1  # each term above 1 − 1/rank
    return float(np.exp(scipy.optimize.brentq(excess, bottom, top, xtol=1e-14)))


def _power_shares(values: Float) -> Float:
    """(rank,) s_j = E[λ_j w_j² / Σ_k λ_k w_k²] = ∫₀^∞ |M|^(−½) λ_j/(1 + 2tλ_j) dt, w ~ N(0, I)."""
    scaled = values / values.max()
    t = log_grid(values.size)
    m = 1 + 2 * t[:, None] * scaled
    density = STEP * t * np.exp(-0.5 * np.log(m).sum(axis=1))
    shares: Float = scaled * (density @ (1 / m))
    return shares
