"""Tasks: what the inputs are distributed as, and what is to be learned from them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike

from sim.spectra import variance_shares
from theory.shared.validation import Float, count, finite_array, one_of, positive, symmetric_psd


@dataclass(frozen=True, eq=False)
class Population:
    """A task in the eigenbasis of its within-class input covariance, and that basis.

    Attributes
    ----------
    spectrum : (d,) eigenvalues of the within-class covariance.
    basis : (d, d) eigenvectors in columns; x = basis @ (coordinates used here).
    means : (P, d) class means, averaging to zero; (0, d) for a single Gaussian.
    teacher : (K, d) B, the best linear map from X to T.
    noise : standard deviation of independent label noise on each output.
    target_cov : (K, K) Cov(T).
    cross_entropy : whether classes are learned by their log probability, not by least squares.
    """

    spectrum: Float
    basis: Float
    means: Float
    teacher: Float
    noise: float
    target_cov: Float
    cross_entropy: bool = False

    @property
    def outputs(self) -> int:
        """K."""
        return int(self.teacher.shape[0])

    @property
    def sigma(self) -> Float:
        """(d, d) covariance of X in the eigenbasis: diagonal for a single Gaussian."""
        cov = np.diag(self.spectrum)
        if self.means.shape[0]:
            cov += self.means.T @ self.means / self.means.shape[0]
        return cov

    @property
    def cross(self) -> Float:
        """(d, K) Cov(X, T) in the eigenbasis."""
        cov: Float = self.sigma @ self.teacher.T
        return cov

    @property
    def floor(self) -> float:
        """Least loss ½ E‖T - f‖² that a linear network can reach."""
        explained = float(np.sum(self.teacher * self.cross.T))
        return 0.5 * (float(np.trace(self.target_cov)) - explained)


@dataclass(frozen=True, eq=False)
class Regression:
    """Gaussian inputs and a linear teacher T = Bx + noise, each output of unit signal variance.

    Parameters
    ----------
    spectrum : (d,) eigenvalues of the input covariance, or (d, d) the covariance itself.
    outputs : K.
    alignment : of every output with the spectrum: input direction j carries the share
        p_j ∝ λ_j^alignment of its variance. See `sim.variance_shares`.
    noise : standard deviation of the label noise; 0 for none.
    seed : of the signs with which the directions enter an output.
    teacher : (K, d) B itself, in the coordinates of `spectrum`, in place of outputs, alignment
        and seed.

    Raises
    ------
    ValueError
        an argument out of range; a spectrum with negative entries; a teacher that is
        not finite or of another width.

    >>> task = Regression(np.array([2.0, 1.0, 0.5]), alignment=0.0)
    >>> task.population.cross.ravel() ** 2 / task.population.spectrum  # variance per direction
    array([0.333..., 0.333..., 0.333...])
    """

    spectrum: Float
    outputs: int = 1
    alignment: float = 1.0
    noise: float = 0.0
    seed: int = 0
    teacher: Float | None = None
    population: Population = field(init=False, repr=False)

    def __post_init__(self) -> None:
        values, basis = _eigenbasis(self.spectrum)
        positive("noise", self.noise, zero=True)
        if self.teacher is None:
            outputs = count("outputs", self.outputs)
            finite_array("alignment", self.alignment, ndim=0)
            shares = variance_shares(values, self.alignment)
            rng = np.random.default_rng(count("seed", self.seed, least=0))
            signs = rng.choice([-1.0, 1.0], size=(outputs, values.size))
            weights = np.divide(shares, values, out=np.zeros_like(values), where=values > 0)
            teacher = signs * np.sqrt(weights)
        else:
            given = finite_array("teacher", self.teacher, ndim=2)
            if given.shape[0] == 0 or given.shape[1] != values.size:
                raise ValueError(
                    f"teacher must have shape (K, d) with K >= 1 and d = {values.size}, the size "
                    f"of spectrum; got {given.shape}."
                )
            teacher = given @ basis
        target_cov = (teacher * values) @ teacher.T + self.noise**2 * np.eye(teacher.shape[0])
        no_means = np.empty((0, values.size))
        _set(self, "spectrum", np.array(self.spectrum, dtype=np.float64))
        _set(self, "outputs", teacher.shape[0])
        _set(
            self,
            "population",
            Population(values, basis, no_means, teacher, float(self.noise), target_cov),
        )

    def config(self) -> dict[str, Any]:
        """What `task_from_config` needs, as JSON types."""
        return {
            "task": "regression",
            "spectrum": self.spectrum.tolist(),
            "outputs": int(self.outputs),
            "alignment": float(self.alignment),
            "noise": float(self.noise),
            "seed": int(self.seed),
            "teacher": None if self.teacher is None else np.asarray(self.teacher).tolist(),
        }


@dataclass(frozen=True, eq=False)
class Mixture:
    """Classification of a Gaussian mixture: equally likely classes, one-hot targets.

    Targets are centered, T = onehot - 1/P, and so are the class means; a network needs no bias.

    Parameters
    ----------
    spectrum : (d,) eigenvalues of the covariance within a class, or (d, d) the covariance.
    classes : P ≥ 2, also the number of outputs.
    separation : root mean square distance of a class mean from the origin, in units of the
        within-class standard deviation along its direction.
    alignment : of the class means with the spectrum, as in `Regression`.
    seed : of the means.
    loss : "squared", ½‖T - f‖², or "cross_entropy", -log softmax(f) of the class.

    >>> Mixture(np.ones(8), classes=3).population.target_cov.round(3)[0]
    array([ 0.222, -0.111, -0.111])
    """

    spectrum: Float
    classes: int = 4
    separation: float = 2.0
    alignment: float = 1.0
    seed: int = 0
    loss: Literal["squared", "cross_entropy"] = "squared"
    population: Population = field(init=False, repr=False)

    def __post_init__(self) -> None:
        values, basis = _eigenbasis(self.spectrum)
        P = count("classes", self.classes, least=2)
        soft = one_of("loss", self.loss, ("squared", "cross_entropy")) == "cross_entropy"
        positive("separation", self.separation)
        finite_array("alignment", self.alignment, ndim=0)
        if values.min() <= 0:
            raise ValueError(
                "spectrum must be positive for a mixture, whose classes would otherwise be exactly "
                f"separable; its smallest eigenvalue is {values.min():.3g}."
            )
        rng = np.random.default_rng(count("seed", self.seed, least=0))
        means: Float = rng.standard_normal((P, values.size))
        means *= np.sqrt(variance_shares(values, self.alignment) * values)
        means -= means.mean(axis=0)
        distance = np.sqrt(np.mean(np.sum(means**2 / values, axis=1)))
        means *= self.separation / distance
        target_cov = np.asarray((np.eye(P) - 1 / P) / P, dtype=np.float64)
        # Cov(X, T) = Σ_p π_p μ_p (onehot_p - 1/P)ᵀ = meansᵀ / P, since the means average to zero.
        sigma = np.diag(values) + means.T @ means / P
        teacher = np.asarray(np.linalg.solve(sigma, means.T / P).T, dtype=np.float64)
        _set(self, "spectrum", np.array(self.spectrum, dtype=np.float64))
        found = Population(values, basis, means, teacher, 0.0, target_cov, soft)
        _set(self, "population", found)

    def config(self) -> dict[str, Any]:
        """What `task_from_config` needs, as JSON types."""
        return {
            "task": "mixture",
            "spectrum": self.spectrum.tolist(),
            "classes": int(self.classes),
            "separation": float(self.separation),
            "alignment": float(self.alignment),
            "seed": int(self.seed),
            "loss": self.loss,
        }


Task = Regression | Mixture
_KINDS: dict[str, type[Regression] | type[Mixture]] = {
    "regression": Regression,
    "mixture": Mixture,
}


def task_from_config(config: Mapping[str, Any]) -> Task:
    """The task that `config()` described."""
    arguments = dict(config)
    kind = _KINDS[one_of("task", str(arguments.pop("task")), _KINDS)]
    for name in ("spectrum", "teacher"):
        if arguments.get(name) is not None:
            arguments[name] = np.array(arguments[name], dtype=np.float64)
    return kind(**arguments)


def _set(instance: object, name: str, value: object) -> None:
    """Set a field of a frozen dataclass while it is being built; arrays become read-only."""
    if isinstance(value, np.ndarray):
        value.flags.writeable = False
    object.__setattr__(instance, name, value)


def _eigenbasis(spectrum: ArrayLike) -> tuple[Float, Float]:
    """Eigenvalues and eigenvectors of a covariance given as either."""
    given = finite_array("spectrum", spectrum, ndim=(1, 2))
    if given.size == 0:
        raise ValueError("spectrum must have at least one eigenvalue; got none.")
    if given.ndim == 2:
        values, basis = np.linalg.eigh(symmetric_psd("spectrum", given))
        # Rounding below zero; symmetric_psd has refused anything larger.
        values, basis = np.maximum(values[::-1], 0.0), basis[:, ::-1].copy()
    else:
        if given.min() < 0:
            raise ValueError(
                f"spectrum must have no negative eigenvalue; the smallest is {given.min():.3g}."
            )
        values, basis = given.copy(), np.eye(given.size)
    if values.max() == 0:
        raise ValueError("spectrum must have a positive eigenvalue; all are 0.")
    return values, basis
