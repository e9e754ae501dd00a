"""Compiled matrix products with few rows on one side: the only heavy arithmetic of `sim`.

`wide` is (n, m); `tall` is (K, n) and `flat` (K, m), with K the number of outputs, small. The loop
over m is the one that is vectorized, unrolled until a value loaded feeds several multiply-adds.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from sim._compile import inlined

Array = NDArray[np.floating]


@inlined
def forward(tall: Array, wide: Array, flat: Array) -> None:
    """Write tall wide to `flat`."""
    n, m = wide.shape
    K = tall.shape[0]
    flat[:] = 0
    eights = n // 8 * 8
    for i in range(0, eights, 8):
        for k in range(K):
            a0, a1, a2, a3 = tall[k, i], tall[k, i + 1], tall[k, i + 2], tall[k, i + 3]
            a4, a5, a6, a7 = tall[k, i + 4], tall[k, i + 5], tall[k, i + 6], tall[k, i + 7]
            for j in range(m):
                first = a0 * wide[i, j] + a1 * wide[i + 1, j]
                second = a2 * wide[i + 2, j] + a3 * wide[i + 3, j]
                third = a4 * wide[i + 4, j] + a5 * wide[i + 5, j]
                fourth = a6 * wide[i + 6, j] + a7 * wide[i + 7, j]
                flat[k, j] += (first + second) + (third + fourth)
    for i in range(eights, n):
        for k in range(K):
            a0 = tall[k, i]
            for j in range(m):
                flat[k, j] += a0 * wide[i, j]


@inlined
def backward(flat: Array, wide: Array, tall: Array) -> None:
    """Write flat wideᵀ to `tall`."""
    n, m = wide.shape
    K = tall.shape[0]
    zero = tall.dtype.type(0)
    pairs = K // 2 * 2
    fours = n // 4 * 4
    for i in range(0, fours, 4):
        for k in range(0, pairs, 2):
            s0 = s1 = s2 = s3 = t0 = t1 = t2 = t3 = zero
            for j in range(m):
                x0, x1, x2, x3 = wide[i, j], wide[i + 1, j], wide[i + 2, j], wide[i + 3, j]
                g, h = flat[k, j], flat[k + 1, j]
                s0 += g * x0
                s1 += g * x1
                s2 += g * x2
                s3 += g * x3
                t0 += h * x0
                t1 += h * x1
                t2 += h * x2
                t3 += h * x3
            tall[k, i], tall[k, i + 1], tall[k, i + 2], tall[k, i + 3] = s0, s1, s2, s3
            tall[k + 1, i], tall[k + 1, i + 1] = t0, t1
            tall[k + 1, i + 2], tall[k + 1, i + 3] = t2, t3
        for k in range(pairs, K):
            s0 = s1 = s2 = s3 = zero
            for j in range(m):
                g = flat[k, j]
                s0 += g * wide[i, j]
                s1 += g * wide[i + 1, j]
                s2 += g * wide[i + 2, j]
                s3 += g * wide[i + 3, j]
            tall[k, i], tall[k, i + 1], tall[k, i + 2], tall[k, i + 3] = s0, s1, s2, s3
    for i in range(fours, n):
        for k in range(K):
            s0 = zero
            for j in range(m):
                s0 += flat[k, j] * wide[i, j]
            tall[k, i] = s0


@inlined
def descend(tall: Array, flat: Array, rate: float, wide: Array) -> None:
    """Subtract rate · tallᵀ flat from `wide`."""
    n, m = wide.shape
    K = tall.shape[0]
    fives = K // 5 * 5
    for i in range(n):
        for k in range(0, fives, 5):
            a0, a1, a2 = rate * tall[k, i], rate * tall[k + 1, i], rate * tall[k + 2, i]
            a3, a4 = rate * tall[k + 3, i], rate * tall[k + 4, i]
            for j in range(m):
                first = a0 * flat[k, j] + a1 * flat[k + 1, j]
                second = a2 * flat[k + 2, j] + a3 * flat[k + 3, j]
                wide[i, j] -= (first + second) + a4 * flat[k + 4, j]
        for k in range(fives, K):
            a0 = rate * tall[k, i]
            for j in range(m):
                wide[i, j] -= a0 * flat[k, j]


@inlined
def subtract(rate: float, gradient: Array, weights: Array) -> None:
    """Subtract rate · gradient from `weights`, both of one two-dimensional shape."""
    for i in range(weights.shape[0]):
        for j in range(weights.shape[1]):
            weights[i, j] -= rate * gradient[i, j]


@inlined
def hold_columns(weights: Array, directions: Array, lengths: Array) -> None:
    """Replace each column of `weights` by its part along the unit column of `directions`.

    A step with the gradient g of a filter w so becomes one with (w·g / w·w) w, as w lies along its
    direction already. `lengths` is memory for one number a column.
    """
    lengths[:] = 0
    for j in range(weights.shape[0]):
        for i in range(weights.shape[1]):
            lengths[i] += weights[j, i] * directions[j, i]
    for j in range(weights.shape[0]):
        for i in range(weights.shape[1]):
            weights[j, i] = lengths[i] * directions[j, i]


@inlined
def hold_rows(weights: Array, directions: Array) -> None:
    """The same of rows."""
    for i in range(weights.shape[0]):
        length = weights.dtype.type(0)
        for j in range(weights.shape[1]):
            length += weights[i, j] * directions[i, j]
        for j in range(weights.shape[1]):
            weights[i, j] = length * directions[i, j]
