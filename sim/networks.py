"""Networks: width, depth, nonlinearity and the law from which the initial weights are drawn."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Literal

import numpy as np
from scipy import optimize

from sim.spectra import variance_shares
from sim.tasks import Population
from theory import initial_coupling
from theory.shared.validation import Float, count, finite_array, one_of, positive, truth


@dataclass(frozen=True, eq=False)
class Weights:
    """Initial weights of one network, in the eigenbasis of its task.

    Attributes
    ----------
    filters : (C, d) first layer; channel i is filters[i] · x.
    inner : (L - 2, C, C) further hidden layers.
    readout : (K, C).
    """

    filters: Float
    inner: Float
    readout: Float


@dataclass(frozen=True)
class Network:
    """A network f = A h(W x) with one layer of C channels measured, and its initialization.

    Filters are drawn from N(0, scale² · balance / d), readouts from N(0, scale² / (balance · C)),
    so that at scale 1 and balance 1 channels and outputs have about the variance of the inputs;
    layers between them from N(0, scale² / C), twice that in a ReLU network.

    Parameters
    ----------
    width : C, the number of channels of every hidden layer.
    depth : number of weight layers; 2 for W and A.
    nonlinearity : "linear" or "relu". Channels are measured before it.
    scale : of all initial weights. Small is rich (features are learned), large is lazy.
    balance : ratio of first-layer to readout variance; or "exact" for WWᵀ = AᵀA, on which
        balanced learning is defined (filters then span as many directions as outputs).
    coupling : None, or the coupling κ(Σ, Σm) that the network's own initial output m shall have:
        the filters are moved, as little as possible, until the output's variance is spread
        as λ_j^η with the η that gives it.
    train_readout : False holds A at its initial value, the case of the closed form.
    norm : whether a batch norm without scale and shift follows the channels: f = A h, h_i of
        variance 1. For two linear layers; channels are measured before it.

    Raises
    ------
    ValueError
        an argument out of range, or a combination that is not defined.

    >>> Network(width=64, coupling=0.7).depth
    2
    """

    width: int = 32
    depth: int = 2
    nonlinearity: Literal["linear", "relu"] = "linear"
    scale: float = 1.0
    balance: float | Literal["exact"] = 1.0
    coupling: float | None = None
    train_readout: bool = True
    norm: bool = False

    def __post_init__(self) -> None:
        truth("train_readout", self.train_readout)
        count("width", self.width, least=2)
        count("depth", self.depth, least=2)
        one_of("nonlinearity", self.nonlinearity, ("linear", "relu"))
        positive("scale", self.scale)
        if isinstance(self.balance, str):
            one_of("balance", self.balance, ("exact",))
        else:
            positive("balance", self.balance)
        if truth("norm", self.norm) and (
            self.nonlinearity != "linear" or self.depth != 2 or self.coupling is not None
        ):
            raise ValueError(
                "norm needs two linear layers and coupling=None: the moments of others behind a "
                f"norm are not closed forms; got {self.nonlinearity!r}, depth={self.depth}, "
                f"coupling={self.coupling!r}."
            )
        if self.coupling is not None:
            finite_array("coupling", self.coupling, ndim=0)
            if self.balance == "exact" or self.depth != 2:
                raise ValueError(
                    "coupling needs depth=2 and a numeric balance: it moves the filters, which "
                    f"exact balance would tie; got depth={self.depth}, balance={self.balance!r}."
                )

    def config(self) -> dict[str, Any]:
        """The arguments, as JSON types."""
        return {
            "width": int(self.width),
            "depth": int(self.depth),
            "nonlinearity": self.nonlinearity,
            "scale": float(self.scale),
            "balance": self.balance if self.balance == "exact" else float(self.balance),
            "coupling": None if self.coupling is None else float(self.coupling),
            "train_readout": bool(self.train_readout),
            "norm": bool(self.norm),
        }

    @property
    def transposed(self) -> bool:
        """Whether training holds one channel in each column of the filters, rather than row."""
        return self.nonlinearity == "linear" and not self.norm

    def draw(self, population: Population, seed: int) -> Weights:
        """Initial weights for a task, from a seed, in the eigenbasis of the task."""
        rng = np.random.default_rng(count("seed", seed, least=0))
        K, d = population.teacher.shape
        C = self.width
        if self.balance == "exact":
            readout = rng.standard_normal((K, C)) * self.scale / np.sqrt(C)
            filters = readout.T @ _orthonormal_rows(rng, K, d)
        else:
            ratio = float(self.balance)
            filters = rng.standard_normal((C, d)) * (self.scale * np.sqrt(ratio / d))
            readout = rng.standard_normal((K, C)) * (self.scale / np.sqrt(ratio * C))
        # Of rectified inputs half the power is gone (He et al. 2015).
        gain = 2.0 if self.nonlinearity == "relu" else 1.0
        inner = rng.standard_normal((self.depth - 2, C, C)) * (self.scale * np.sqrt(gain / C))
        if self.coupling is not None:
            filters = self._couple(filters, readout, population, rng)
        return Weights(filters, inner, readout)

    def _couple(
        self, filters: Float, readout: Float, population: Population, rng: np.random.Generator
    ) -> Float:
        """Move the filters along the readout until the output's coupling is as asked."""
        K, C = readout.shape
        if K > C:
            raise ValueError(f"coupling needs at least as many channels as outputs; got {C} < {K}.")
        if population.means.shape[0]:
            raise ValueError(
                "coupling is defined for Regression tasks, whose inputs are one Gaussian; got a "
                "Mixture. Pass coupling=None."
            )
        spectrum = population.spectrum
        shares = coupled_shares(spectrum, float(self.coupling or 0.0))
        output = readout @ filters
        wanted = np.divide(shares, spectrum, out=np.zeros_like(shares), where=spectrum > 0) ** 0.5
        wanted = rng.choice([-1.0, 1.0], size=output.shape) * wanted
        deviation = np.sqrt(np.sum(output**2 * spectrum, axis=1))
        moved: Float = filters + np.linalg.pinv(readout) @ (deviation[:, None] * wanted - output)
        return moved


def coupled_shares(spectrum: Float, coupling: float) -> Float:
    """Variance shares p_j ∝ λ_j^η of an output whose κ(Σ, Σm) is `coupling`; c_j² = λ_j p_j.

    Raises
    ------
    ValueError
        a coupling that no η in [-20, 20] gives for this spectrum.
    """
    return variance_shares(spectrum, _alignment(tuple(spectrum.tolist()), coupling))


@lru_cache(maxsize=256)
def _alignment(eigenvalues: tuple[float, ...], coupling: float) -> float:
    """The exponent η; one network after another asks for the same."""
    spectrum = np.array(eigenvalues)

    def kappa(eta: float) -> float:
        return initial_coupling(spectrum, np.sqrt(spectrum * variance_shares(spectrum, eta)))

    low, high = kappa(-20.0), kappa(20.0)
    if not low < coupling < high:
        raise ValueError(
            f"coupling must lie between {low:.3g} and {high:.3g} for this spectrum; got "
            f"{coupling!r}. A steeper spectrum allows a wider range."
        )
    return float(optimize.brentq(lambda eta: kappa(eta) - coupling, -20.0, 20.0))


def network_from_config(config: Mapping[str, Any]) -> Network:
    """The network that `config()` described."""
    return Network(**config)


def _orthonormal_rows(rng: np.random.Generator, rows: int, columns: int) -> Float:
    if rows > columns:
        raise ValueError(
            f"balance='exact' needs at least as many inputs as outputs; got {columns} < {rows}."
        )
    q, _ = np.linalg.qr(rng.standard_normal((columns, rows)))
    return np.asarray(q.T)
