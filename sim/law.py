"""The law of a trained layer's filters, and the rank coupling that it predicts, before training.

With the readout A fixed, training moves W only within the rows of A: for end-to-end weights M(t),

    W(t) = Aᵀ(AAᵀ)⁻¹ M(t) + (I - P_A) W(0),

and the second part never changes. So with many channels a filter is a draw from N(0, V(t)),

    V(t) = s² (1 - K/C) I + M(t)ᵀ (AAᵀ)⁻¹ M(t) / C,

s² being the variance of the initial weights. The ratio of the two parts is the richness of the
run: where the first dominates (lazy) the layer keeps its random filters and the coupling follows
the task, κ(Σ, Σm); where the second does (rich) all filters share the directions that were
learned, and both axes measure how much of these a channel has.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from sim.networks import Network, coupled_shares
from sim.tasks import Population
from theory import spearman
from theory.shared.validation import Float, count


@dataclass(frozen=True, eq=False)
class FilterLaw:
    """Filters ~ N(0, noise · I + drive) of a layer with end-to-end weights `output`.

    Attributes
    ----------
    population : the task.
    output : (K, d) M, in the eigenbasis of the task.
    noise : s² (1 - K/C), variance of what training does not touch.
    drive : (d, d) Mᵀ(AAᵀ)⁻¹M / C, what the channels owe to the output.
    """

    population: Population
    output: Float
    noise: float
    drive: Float

    @property
    def richness(self) -> float:
        """tr(Σ drive) / tr(Σ noise): a channel's power from what was learned over the rest."""
        sigma = self.population.sigma
        return float(np.trace(sigma @ self.drive) / (self.noise * np.trace(sigma)))

    def rank_coupling(self, *, target: str = "output", draws: int = 20_000, seed: int = 0) -> float:
        """Spearman coupling of I_X and I_T across filters drawn from the law.

        Its sampling error is below 0.008 with the default number of draws.
        """
        rng = np.random.default_rng(seed)
        values, vectors = np.linalg.eigh(self.drive)
        factor = vectors * np.sqrt(np.maximum(values, 0))
        shape = (count("draws", draws), values.size)
        filters = np.sqrt(self.noise) * rng.standard_normal(shape)
        filters += rng.standard_normal(shape) @ factor.T
        return float(spearman(*_axes(filters, self.output, self.population, target)))


def _axes(
    filters: Float, output: Float, population: Population, target: str
) -> tuple[Float, Float]:
    """J and the explained share of the target, whose ranks are those of I_X and I_T."""
    sigma = population.sigma
    power = np.sum((filters @ sigma) * filters, axis=-1)
    if target == "label":
        cross, within = population.cross, population.target_cov
    else:
        cross, within = sigma @ output.T, output @ sigma @ output.T
    covariance = filters @ cross
    inverse = np.linalg.pinv(within, hermitian=True)
    return power, np.sum((covariance @ inverse) * covariance, axis=-1) / power


def expected_law(
    population: Population, network: Network, time: float, rng: np.random.Generator
) -> FilterLaw:
    """The law at a training time, for a linear network of two layers with its readout fixed.

    It uses nothing but the settings: AAᵀ is replaced by its mean, and M(0) is drawn from its own
    distribution. M(t) = B + (M(0) - B) e^(-|A|² Σ t), with |A|² the mean of each output's squared
    readout.

    Parameters
    ----------
    population : of the task; a single Gaussian.
    network : two layers, linear, numeric balance.
    time : steps × learning rate; infinity for the end of training.
    rng : draws M(0).

    Raises
    ------
    ValueError
        a network that the law does not describe.
    """
    if network.depth != 2 or network.nonlinearity != "linear" or isinstance(network.balance, str):
        raise ValueError(
            "network must be linear with two layers and a numeric balance: the law holds for "
            f"these; got {network}."
        )
    K, d = population.teacher.shape
    C, spectrum = network.width, population.spectrum
    if K >= C:
        raise ValueError(f"network must have more channels than outputs; got {C} and {K}.")
    readout_power = network.scale**2 / network.balance
    filter_variance = network.scale**2 * network.balance / d
    start = _expected_start(population, network, filter_variance * readout_power, rng)
    remaining = np.exp(-readout_power * spectrum * time) if np.isfinite(time) else spectrum * 0
    output = population.teacher + remaining * (start - population.teacher)
    drive = output.T @ output / (readout_power * C)
    return FilterLaw(population, output, filter_variance * (1 - K / C), drive)


def _expected_start(
    population: Population, network: Network, variance: float, rng: np.random.Generator
) -> Float:
    """M(0) of a network: N(0, variance) entries, or with the coupling that it asks for."""
    K, d = population.teacher.shape
    if network.coupling is None:
        random: Float = np.sqrt(variance) * rng.standard_normal((K, d))
        return random
    spectrum = population.spectrum
    power = coupled_shares(spectrum, network.coupling) * variance * spectrum.sum()
    size = np.sqrt(np.divide(power, spectrum, out=np.zeros_like(power), where=spectrum > 0))
    signed: Float = rng.choice([-1.0, 1.0], size=(K, d)) * size
    return signed


def predicted_rank_coupling(
    population: Population,
    network: Network,
    time: float,
    *,
    target: str = "output",
    starts: int = 16,
    draws: int = 4000,
    seed: int = 0,
) -> float:
    """Spearman coupling of the two axes at a training time, from the settings alone.

    The mean over `starts` draws of M(0) of the coupling across `draws` filters of `expected_law`.

    >>> from sim import Network, Regression, power_law
    >>> task = Regression(power_law(16, 2.0), alignment=2.0)
    >>> rich = Network(width=64, scale=0.1, train_readout=False)
    >>> predicted_rank_coupling(task.population, rich, np.inf) > 0.8
    True
    """
    rng = np.random.default_rng(seed)
    couplings = [
        expected_law(population, network, time, rng).rank_coupling(
            target=target, draws=draws, seed=seed + k
        )
        for k in range(count("starts", starts))
    ]
    return float(np.mean(couplings))
