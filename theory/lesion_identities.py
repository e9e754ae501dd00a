"""What removing channels costs a linear readout: mean ablation, replacement, refit. In units of T².

Channels Y with covariance K, k = Cov(Y, T), readout f = aᵀY + const. The error is E(T − f)²; for
several targets it is summed over them. At the least-squares readout a = K⁻¹k the general forms
reduce to a_i²K_ii (mean), a_i²/(K⁻¹)_ii (replacement and refit), and their ratio is 1 − E_i.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from theory.shared.validation import (
    Float,
    columns,
    finite_array,
    indices,
    real_array,
    symmetric_psd,
)


@dataclass(frozen=True, eq=False)
class LesionDamage:
    """Rise of the squared error per channel, each (C,), for a given readout.

    Attributes
    ----------
    mean : channel i held at its mean: a_i²K_ii + 2a_i(k − Ka)_i.
    zero : channel i set to 0, the constant of the readout kept: that of the mean, plus
        (a_i μ_i)² − 2 a_i μ_i E(f − T).
    replacement : channel i replaced by its regression on all peers:
        (a_i/(K⁻¹)_ii)(2a*_i − a_i), a* = K⁻¹k.
    refit : rise of the error of the best readout when channel i goes: a*_i²/(K⁻¹)_ii.
    """

    mean: Float
    zero: Float
    replacement: Float
    refit: Float


def readout_error(
    cov: ArrayLike, cross: ArrayLike, target_cov: ArrayLike, readout: ArrayLike
) -> float:
    """E‖T − f‖² of centered channels: tr(S − 2aᵀk + aᵀKa).

    Parameters
    ----------
    cov : (C, C) K.
    cross : (C,) or (C, q) k.
    target_cov : variance, or (q, q) covariance S, of T.
    readout : (C,) or (C, q) a.

    >>> readout_error([[1.0]], [0.5], 1.0, [0.5])
    0.75
    """
    k, c, a = _validated(cov, cross, readout)
    s = symmetric_psd("target_cov", np.atleast_2d(real_array("target_cov", target_cov)))
    if s.shape[0] != c.shape[1]:
        raise ValueError(
            f"target_cov must be {c.shape[1]} x {c.shape[1]}, as cross has columns; got {s.shape}."
        )
    return float(np.trace(s) - 2 * np.sum(a * c) + np.sum(a * (k @ a)))


def least_squares_readout(cov: ArrayLike, cross: ArrayLike) -> Float:
    """a* = K⁻¹k, of the shape of `cross`.

    Raises
    ------
    ValueError
        K singular, where the readout is not unique.

    >>> least_squares_readout([[2.0, 0.0], [0.0, 1.0]], [1.0, 1.0])
    array([0.5, 1. ])
    """
    k, c, _ = _validated(cov, cross, cross)
    best: Float = _inverse(k) @ c
    return best.reshape(np.shape(cross))


def lesion_damage(
    cov: ArrayLike,
    cross: ArrayLike,
    readout: ArrayLike | None = None,
    *,
    mean: ArrayLike | None = None,
    mean_error: ArrayLike | None = None,
) -> LesionDamage:
    """Damage of every single-channel lesion, from one inverse.

    Parameters
    ----------
    cov : (C, C) K, positive definite.
    cross : (C,) or (C, q) k.
    readout : (C,) or (C, q) a; the least-squares one by default.
    mean : (C,) means of the channels, for `zero`; 0 by default.
    mean_error : (q,) mean of f − T before the lesion; 0 by default, as with a fitted constant.

    Raises
    ------
    ValueError
        K singular or not positive semidefinite, or shapes that do not fit.

    Source: catalogue entries `mean_ablation_general`, `replacement_general`, `refit_damage`,
    `zero_ablation_damage`.

    >>> damage = lesion_damage([[1.0, 0.6], [0.6, 1.0]], [0.5, 0.4])
    >>> (damage.replacement / damage.mean).round(6)  # 1 − E_i
    array([0.64, 0.64])
    """
    k, c, a = _validated(cov, cross, cross if readout is None else readout)
    inverse = _inverse(k)
    best = inverse @ c
    if readout is None:
        a = best
    diagonal = np.diagonal(inverse)
    hold = np.sum(a**2, axis=1) * np.diagonal(k) + 2 * np.sum(a * (c - k @ a), axis=1)
    mu = np.zeros(len(k)) if mean is None else _of_length("mean", mean, len(k))
    bias = np.zeros(a.shape[1])
    if mean_error is not None:
        bias = _of_length(
            "mean_error", np.atleast_1d(real_array("mean_error", mean_error)), bias.size
        )
    shift = a * mu[:, None]
    return LesionDamage(
        mean=hold,
        zero=hold + np.sum(shift**2 - 2 * shift * bias, axis=1),
        replacement=np.sum(a * (2 * best - a), axis=1) / diagonal,
        refit=np.sum(best**2, axis=1) / diagonal,
    )


def set_lesion_damage(
    cov: ArrayLike, cross: ArrayLike, channels: ArrayLike, readout: ArrayLike | None = None
) -> dict[str, float]:
    """Damage of removing a set of channels at once: "mean", "replacement" and "refit".

    mean: tr(a_Sᵀ K_SS a_S) + 2 tr(a_Sᵀ (k − Ka)_S). With P = (K⁻¹)_SS, replacement of the set by
    its regression on the rest: tr(a_Sᵀ P⁻¹ (2a*_S − a_S)); refit: tr(a*_Sᵀ P⁻¹ a*_S).

    Parameters
    ----------
    cov : (C, C) K, positive definite.
    cross : (C,) or (C, q) k.
    channels : indices of the set.
    readout : a; the least-squares one by default.

    >>> damage = set_lesion_damage(np.eye(3), [1.0, 2.0, 3.0], [0, 1])
    >>> damage["mean"], damage["refit"]
    (5.0, 5.0)
    """
    k, c, a = _validated(cov, cross, cross if readout is None else readout)
    index = indices("channels", channels, len(k), distinct=True)
    inverse = _inverse(k)
    best = inverse @ c
    if readout is None:
        a = best
    block = np.linalg.inv(inverse[np.ix_(index, index)])
    own, gap = a[index], (c - k @ a)[index]
    return {
        "mean": float(np.sum(own * (k[np.ix_(index, index)] @ own)) + 2 * np.sum(own * gap)),
        "replacement": float(np.sum(own * (block @ (2 * best[index] - own)))),
        "refit": float(np.sum(best[index] * (block @ best[index]))),
    }


def _of_length(name: str, value: ArrayLike, length: int) -> Float:
    vector = finite_array(name, value, ndim=1)
    if vector.size != length:
        raise ValueError(f"{name} must have length {length}; got {vector.size}.")
    return vector


def _inverse(k: Float) -> Float:
    values = np.linalg.eigvalsh(k)
    if values[0] <= 1e-12 * values[-1]:
        raise ValueError(
            f"cov must be positive definite; its smallest eigenvalue is {values[0]:.3g}. Add a "
            "ridge, or drop dead and duplicate channels."
        )
    return np.asarray(np.linalg.inv(k), dtype=np.float64)


def _validated(cov: ArrayLike, cross: ArrayLike, readout: ArrayLike) -> tuple[Float, Float, Float]:
    k = symmetric_psd("cov", cov)
    c = columns("cross", cross)
    a = columns("readout", readout)
    if c.shape[0] != k.shape[0] or a.shape != c.shape:
        raise ValueError(
            "Shapes must be cov (C, C), cross (C, q), readout (C, q); got "
            f"{k.shape}, {c.shape}, {a.shape}."
        )
    return k, c, a
