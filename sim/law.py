"""The law of a trained layer's filters, and the rank coupling that it predicts, before training.

With the readout A fixed, training moves W only within the rows of A: for end-to-end weights M(t),

    W(t) = Aᵀ(AAᵀ)⁻¹ M(t) + (I - P_A) W(0),

and the second part never changes. Given the readout and M, filter i is therefore

    w_i(t) ~ N(M(t)ᵀ(AAᵀ)⁻¹a_i, s² (1 - P_ii) I),    P = Aᵀ(AAᵀ)⁻¹A,

exactly, at any width; s² is the variance of the initial weights, and channels are tied by P alone.
For one output that is N(a_i m/‖a‖², s² (1 - a_i²/‖a‖²) I). The *richness* is the share of a
channel's power that was learned over the share that is still random: where the latter dominates
(lazy) the layer keeps its random filters and the coupling follows the task; where the former does
(rich) all filters share the directions that were learned, and both axes measure how much of these a
channel has.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from sim.networks import Network
from sim.tasks import Population
from theory import spearman
from theory.shared.validation import Float, count, positive


@dataclass(frozen=True, eq=False)
class FilterLaw:
    """The filters of a layer with this readout and these end-to-end weights.

    Attributes
    ----------
    population : the task.
    output : (K, d) M, in the eigenbasis of the task.
    readout : (K, C) A.
    variance : s², of the initial weights.
    """

    population: Population
    output: Float
    readout: Float
    variance: float

    @property
    def centers(self) -> Float:
        """(C, d) Aᵀ(AAᵀ)⁻¹M: the mean of each filter."""
        found: Float = np.linalg.pinv(self.readout) @ self.output
        return found

    @property
    def variances(self) -> Float:
        """(C,) s²(1 - P_ii): of each entry of a filter around its mean."""
        own = np.sum(np.linalg.pinv(self.readout).T * self.readout, axis=0)
        found: Float = self.variance * (1 - own)
        return found

    @property
    def richness(self) -> float:
        """Power of a channel from what was learned over that of chance, means over channels."""
        sigma, centers = self.population.sigma, self.centers
        learned = np.mean(np.sum((centers @ sigma) * centers, axis=1))
        return float(learned / (self.variances.mean() * np.trace(sigma)))

    def draw(self, rng: np.random.Generator) -> Float:
        """(C, d) all filters of one layer, jointly."""
        random = np.sqrt(self.variance) * rng.standard_normal(self.centers.shape)
        seen = np.linalg.pinv(self.readout) @ (self.readout @ random)
        found: Float = self.centers + random - seen
        return found

    def rank_coupling(self, *, target: str = "output", draws: int = 64, seed: int = 0) -> float:
        """Mean Spearman coupling of I_X and I_T over layers so drawn."""
        rng = np.random.default_rng(count("seed", seed, least=0))
        filters = np.stack([self.draw(rng) for _ in range(count("draws", draws))])
        return float(np.mean(spearman(*rank_axes(filters, self.output, self.population, target))))


def rank_axes(
    filters: Float, output: Float, population: Population, target: str
) -> tuple[Float, Float]:
    """(..., C) J and the explained share of the target, whose ranks are those of I_X and I_T."""
    sigma = population.sigma
    power = np.sum((filters @ sigma) * filters, axis=-1)
    if target == "label":
        cross, within = population.cross, population.target_cov
    else:
        cross = sigma @ np.swapaxes(output, -1, -2)
        within = output @ cross
    covariance = filters @ cross
    inverse = np.linalg.pinv(within, hermitian=True)
    return power, np.sum((covariance @ inverse) * covariance, axis=-1) / power


def end_to_end(
    population: Population, start: Float, readout: Float, times: Float, rate: float = 0.0
) -> Float:
    """(R, K, d) M at the times, from M(0) (K, d): B + (M(0) - B) decaying mode by mode.

    As e^(-αλt) in the flow, and as (1 - rate·αλ)^(t/rate) in descent with a learning rate; α are
    the eigenvalues of AAᵀ.
    """
    strengths, modes = np.linalg.eigh(readout @ readout.T)
    speed = np.maximum(strengths, 0)[:, None] * population.spectrum
    when = times[:, None, None]
    if rate:
        factor = np.abs(1 - rate * speed)[None]
        signs = np.where((1 - rate * speed < 0) & (np.round(when / rate) % 2 == 1), -1.0, 1.0)
        with np.errstate(divide="ignore", invalid="ignore"):
            left = signs * np.where(when == 0, 1.0, factor ** (when / rate))
    else:
        with np.errstate(invalid="ignore"):
            left = np.where(speed > 0, np.exp(-speed * when), 1.0)
    gap = modes.T @ (start - population.teacher)
    return np.asarray(population.teacher + modes @ (left * gap))


def _checked(population: Population, network: Network) -> None:
    if network.depth != 2 or network.nonlinearity != "linear" or isinstance(network.balance, str):
        raise ValueError(
            "network must be linear with two layers and a numeric balance: the law holds for "
            f"these; got {network}."
        )
    if population.outputs >= network.width:
        raise ValueError(
            f"network must have more channels than outputs; got {network.width} and "
            f"{population.outputs}."
        )


def expected_law(
    population: Population, network: Network, time: float, rng: np.random.Generator
) -> FilterLaw:
    """The law at a training time: readout and M(0) of one network that is not trained.

    Parameters
    ----------
    population : of the task; a single Gaussian.
    network : two layers, linear, numeric balance; its readout held fixed.
    time : steps × learning rate; infinity for the end of training.
    rng : draws the readout and M(0).

    Raises
    ------
    ValueError
        a network that the law does not describe.
    """
    _checked(population, network)
    weights = network.draw(population, int(rng.integers(2**62)))
    start = weights.readout @ weights.filters
    output = end_to_end(population, start, weights.readout, np.array([float(time)]))[0]
    variance = network.scale**2 * float(network.balance) / population.spectrum.size
    return FilterLaw(population, output, weights.readout, variance)


def predicted_couplings(
    population: Population,
    network: Network,
    times: ArrayLike,
    *,
    target: str = "output",
    networks: int = 256,
    rate: float = 0.0,
    seed: int = 0,
) -> Float:
    """(networks, R) Spearman coupling of the two axes along training, from the settings alone.

    Of layers drawn from the exact law: nothing is trained. What a layer of finite width loses of a
    population's rank correlation (catalogue entry `sample_spearman_mean`) is in it.

    Parameters
    ----------
    population, network : as in `expected_law`.
    times : (R,) steps × learning rate; infinity for the end.
    target : of the task axis, "output" or "label".
    networks : how many layers are drawn.
    rate : the learning rate of descent; 0 for the flow.
    seed : of the draws.
    """
    _checked(population, network)
    when = np.atleast_1d(np.asarray(times, dtype=np.float64))
    rng = np.random.default_rng([count("seed", seed, least=0), 0x1A3])
    found = []
    for _ in range(count("networks", networks)):
        weights = network.draw(population, int(rng.integers(2**62)))
        readout = weights.readout
        start = readout @ weights.filters
        output = end_to_end(population, start, readout, when, positive("rate", rate, zero=True))
        rest = weights.filters - np.linalg.pinv(readout) @ start
        filters = rest + np.linalg.pinv(readout) @ output
        found.append(spearman(*rank_axes(filters, output, population, target)))
    return np.array(found)


def predicted_rank_coupling(
    population: Population,
    network: Network,
    time: float,
    *,
    target: str = "output",
    networks: int = 256,
    seed: int = 0,
) -> float:
    """Mean of `predicted_couplings` at one time.

    >>> from sim import Network, Regression, power_law
    >>> task = Regression(power_law(16, 2.0), alignment=2.0)
    >>> rich = Network(width=64, scale=0.1, train_readout=False)
    >>> predicted_rank_coupling(task.population, rich, np.inf, networks=8) > 0.8
    True
    """
    couplings = predicted_couplings(
        population, network, [time], target=target, networks=networks, seed=seed
    )
    return float(couplings.mean())
