"""Greedy removal by what whole kernels lose: the layerwise least-squares objective, exactly.

A unit is a block of rows of what the next layer multiplies its kernels with: its value at every
tap. With X the patches (samples, rows), W the weights (rows, outputs) and H the second moment or
the covariance of X, keeping the units S loses

    f(S) = min over W' of E ‖X W - X_S W'‖²,   X taken about its mean where H is a covariance.

With P = H⁻¹ over the units left and W refitted to them, removing unit i adds tr(W_iᵀ P_ii⁻¹ W_i),
after which W ← W - P_·i P_ii⁻¹ W_i and P ← P - P_·i P_ii⁻¹ P_i·. Every step so refits all kernels,
in O(rows³) altogether. Residuals at the taps of a kernel may correlate in any way, where
`removal_order` takes them as uncorrelated; at one row per unit both are the same.

The objective is that of OSSCAR (Meng et al., ICML 2024, arXiv:2403.12983), whose swaps after the
greedy pass are left out: they belong to one number kept, and scores serve all of them.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from empirical.pruning.replaceability import BLOCK, RIDGE, Reader, greedy

Float = NDArray[np.float64]


def kernel_removal_order(
    moments: Sequence[Float],
    weights: Sequence[Float],
    units: int,
    *,
    ridge: float = RIDGE,
    relative: bool = True,
    given: NDArray[np.int64] | None = None,
) -> tuple[NDArray[np.int64], Float]:
    """Greedy order of removal and the cost of each step.

    Parameters
    ----------
    moments : per consumer, H of its patches, (rows, rows), the rows of a unit next to each other.
    weights : per consumer, W (rows, outputs).
    units : number of them; every consumer has a multiple of it as rows.
    ridge : share of the mean second moment added to the diagonal.
    relative : costs as a share of Σ_i tr(W_iᵀ H_ii W_i), averaged over consumers; else as they
        are, summed.
    given : units in the order in which they are to go, (units,), instead of the cheapest first.

    Returns
    -------
    order : the unit that goes first, second, ..., (units,).
    cost : variance lost at each step, (units,).

    Two units of two taps, the second unit the first one's taps exchanged: either goes for nothing,
    and then all goes.

    >>> twin = np.eye(2)[:, [0, 1, 1, 0]]
    >>> order, cost = kernel_removal_order([twin.T @ twin], [np.eye(4)], 2)
    >>> order.tolist(), cost.round(3).tolist()
    ([1, 0], [0.0, 1.0])
    """
    readers: list[Reader] = []
    for moment, weight in zip(moments, weights, strict=True):
        blocks = _own_blocks(moment, units)
        rows = weight.reshape(units, -1, weight.shape[1])
        power = float(np.einsum("uko,ukl,ulo->", rows, blocks, rows))
        scale = float(np.trace(moment)) / len(moment)
        if power <= 0:
            continue
        precision = np.linalg.inv(moment + ridge * scale * np.eye(len(moment)))
        weight = weight / np.sqrt(power) if relative else weight.copy()
        readers.append(_KernelReader(np.asarray(precision), weight, units))
    order, cost = greedy(readers, units, given)
    return order, cost / max(1, len(readers)) if relative else cost


def _own_blocks(matrix: Float, units: int) -> Float:
    """Blocks of each unit with itself, (units, k, k)."""
    k = len(matrix) // units
    here = np.arange(units)
    return np.asarray(matrix.reshape(units, k, units, k)[here, :, here])


class _KernelReader:
    """P and the refitted W of one consumer over the units that are left, updates of P pending.

    With P_ii = L Lᵀ and D = P_·i L⁻ᵀ a removal is P ← P - D Dᵀ and W ← W - D L⁻¹ W_i. A step needs
    the units' own blocks of P and one unit's columns; the rest is multiplied out once per block.
    """

    def __init__(self, precision: Float, weight: Float, units: int) -> None:
        self.precision, self.weight = precision, weight
        self.pivots = _own_blocks(precision, units)
        self._empty()

    def _empty(self) -> None:
        self.pending = 0
        self.down = np.zeros((len(self.precision), BLOCK * self.pivots.shape[1]), order="F")

    def costs(self, staying: NDArray[np.bool_]) -> Float:
        """tr(W_iᵀ P_ii⁻¹ W_i) of the units that stay."""
        rows = self.weight.reshape(len(self.pivots), -1, self.weight.shape[1])[staying]
        gram = rows @ rows.swapaxes(1, 2)
        return np.asarray((gram * np.linalg.inv(self.pivots[staying])).sum((1, 2)))

    def take_out(self, gone: int, staying: NDArray[np.bool_]) -> None:
        """Refit to the units that stay, and remember the rest."""
        k = self.pivots.shape[1]
        mine = slice(gone * k, (gone + 1) * k)
        pending = self.down[:, : self.pending]
        columns = self.precision[:, mine] - pending @ pending[mine].T
        columns *= np.repeat(staying, k)[:, None]
        root = np.linalg.cholesky(self.pivots[gone])
        down = np.linalg.solve(root, columns.T).T
        self.weight -= down @ np.linalg.solve(root, self.weight[mine])
        blocks = down.reshape(-1, k, k)
        self.pivots -= blocks @ blocks.swapaxes(1, 2)
        self.down[:, self.pending : self.pending + k] = down
        self.pending += k

    def settle(self, staying: NDArray[np.bool_]) -> None:
        """Multiply the pending updates out, and keep only the units that stay."""
        rows = np.repeat(staying, self.pivots.shape[1])
        down = self.down[rows]
        self.precision = self.precision[np.ix_(rows, rows)] - down @ down.T
        self.weight, self.pivots = self.weight[rows], self.pivots[staying]
        self._empty()
