"""Counter-based random numbers: what is drawn depends on (key, counter) and on nothing else.

Philox4x32-10 (Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", SC 2011). A stream has
no state to share or to advance, so a member of an ensemble draws the same numbers on any thread.
Every intermediate fits in 64 bits; nothing here relies on wrap-around.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from sim._compile import compiled

MASK = np.uint64(0xFFFFFFFF)
HALF = np.uint64(32)
MULTIPLY_0 = np.uint64(0xD2511F53)
MULTIPLY_1 = np.uint64(0xCD9E8D57)
WEYL_0 = np.uint64(0x9E3779B9)
WEYL_1 = np.uint64(0xBB67AE85)
UNIT = 2.0**-32


@compiled
def philox(counter: NDArray[np.uint64], key_0: np.uint64, key_1: np.uint64) -> None:
    """Replace four 32-bit counter words, held as uint64, by four random 32-bit words."""
    for _ in range(10):
        product_0 = MULTIPLY_0 * counter[0]
        product_1 = MULTIPLY_1 * counter[2]
        first = (product_1 >> HALF) ^ counter[1] ^ key_0
        third = (product_0 >> HALF) ^ counter[3] ^ key_1
        counter[1] = product_1 & MASK
        counter[3] = product_0 & MASK
        counter[0] = first
        counter[2] = third
        key_0 = (key_0 + WEYL_0) & MASK
        key_1 = (key_1 + WEYL_1) & MASK


@compiled
def draw_words(key: np.uint64, sample: np.uint64, block: int, words: NDArray[np.uint64]) -> None:
    """Fill `words` (4,) with the random words of one block of one sample of the stream `key`."""
    words[0] = np.uint64(block)
    words[1] = np.uint64(0)
    words[2] = sample & MASK
    words[3] = sample >> HALF
    philox(words, key & MASK, key >> HALF)


@compiled
def draw_normals(
    key: np.uint64, sample: np.uint64, words: NDArray[np.uint64], out: NDArray[np.floating]
) -> None:
    """Fill `out` with independent standard normals by Box-Muller, four from each block.

    The uniforms have 32 bits, which bounds a normal at 6.8 in absolute value.
    """
    count = out.shape[0]
    for block in range((count + 3) // 4):
        draw_words(key, sample, block, words)
        for pair in range(2):
            place = 4 * block + 2 * pair
            if place < count:
                radius = math.sqrt(-2.0 * math.log((words[2 * pair] + 0.5) * UNIT))
                angle = 2.0 * math.pi * words[2 * pair + 1] * UNIT
                out[place] = radius * math.cos(angle)
                if place + 1 < count:
                    out[place + 1] = radius * math.sin(angle)


@compiled
def draw_index(key: np.uint64, sample: np.uint64, count: int, words: NDArray[np.uint64]) -> int:
    """Return a uniform whole number below `count`, from a block that no normal of `sample` uses."""
    draw_words(key, sample, 0x7FFFFFFF, words)
    return int(words[0] * UNIT * count)
