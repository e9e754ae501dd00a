"""Numbers over training steps: the learning rate, and when the weights are kept."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from theory.shared.validation import count


def one_cycle(position: float, warmup: float) -> float:
    """Return the share of the peak rate: linear up to it over `warmup`, then linear down to 0.

    >>> [one_cycle(p, 0.2) for p in (0.0, 0.1, 0.2, 0.6, 1.0)]
    [0.0, 0.5, 1.0, 0.5, 0.0]
    """
    if position < warmup:
        return position / warmup
    return (1 - position) / (1 - warmup)


def cosine(position: float, warmup: float) -> float:
    """Return the share of the peak rate: linear up to it over `warmup`, then a half cosine to 0.

    >>> [round(cosine(p, 0.0), 3) for p in (0.0, 0.5, 1.0)]
    [1.0, 0.5, 0.0]
    """
    if position < warmup:
        return position / warmup
    return 0.5 * (1 + math.cos(math.pi * (position - warmup) / (1 - warmup)))


SCHEDULES: dict[str, Callable[[float, float], float]] = {"one_cycle": one_cycle, "cosine": cosine}
"""Name -> share of the peak learning rate at a position in [0, 1] of the training."""


def checkpoint_steps(
    total: int, *, log_spaced: int = 10, steps_per_epoch: int | None = None
) -> tuple[int, ...]:
    """Return the steps at which weights are kept: 0, `log_spaced` steps from 1 to `total`, epochs.

    Parameters
    ----------
    total
        Number of training steps; weights after the last of them are always kept.
    log_spaced
        How many steps from 1 to `total`, evenly spaced in the logarithm. Where rounding makes two
        of them equal, the next whole number is taken, as long as there is one.
    steps_per_epoch
        If given, the end of every epoch is kept too.

    Examples
    --------
    >>> checkpoint_steps(1000, log_spaced=4)
    (0, 1, 10, 100, 1000)
    >>> checkpoint_steps(10, log_spaced=4, steps_per_epoch=4)
    (0, 1, 2, 4, 5, 8, 10)
    """
    last = count("total", total)
    wanted = min(count("log_spaced", log_spaced, least=2), last)
    kept = {0, last}
    previous = 0
    for index, value in enumerate(np.geomspace(1, last, wanted)):
        # Leave room for the steps that are still to come, and never repeat one.
        previous = min(max(previous + 1, round(float(value))), last - (wanted - 1 - index))
        kept.add(previous)
    if steps_per_epoch is not None:
        kept.update(range(0, last + 1, count("steps_per_epoch", steps_per_epoch)))
    return tuple(sorted(kept))
