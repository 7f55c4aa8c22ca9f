"""Random numbers that depend on a seed and a position alone.

Philox 4x32-10 (Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", SC 2011): four words
of 32 bits for each value of a counter, with whole numbers only. Threads, batches, devices and the
language make no difference: `export/web/noise.js` draws the same in a browser.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

ROUNDS = 10
MULTIPLIERS = (0xD2511F53, 0xCD9E8D57)
KEY_STEPS = (0x9E3779B9, 0xBB67AE85)
WORD = 0xFFFFFFFF
CANVAS, ITEM = 0, 1  # streams: what is drawn for one purpose tells nothing of another


def words(seed: int, first: int, count: int, stream: int = CANVAS) -> np.ndarray:
    """Words of 32 bits, as uint64 (count, 4): those of the counters from `first` on.

    Args:
        seed: 0 to 2**64 - 1, the key.
        first: 0 to 2**64 - 1, where it wraps round.
        stream: 0 to 2**64 - 1, the upper half of the counter.
    """
    counter, upper = np.arange(count, dtype=np.uint64) + np.uint64(first), np.uint64(stream)
    lines = [part + 0 * counter for half in (counter, upper) for part in (half & WORD, half >> 32)]
    keys = [seed & WORD, seed >> 32]
    for _ in range(ROUNDS):
        left, right = (lines[2 * i] * np.uint64(MULTIPLIERS[i]) for i in range(2))
        lines = [
            (right >> 32) ^ lines[1] ^ np.uint64(keys[0]),
            right & WORD,
            (left >> 32) ^ lines[3] ^ np.uint64(keys[1]),
            left & WORD,
        ]
        keys = [(key + step) & WORD for key, step in zip(keys, KEY_STEPS, strict=True)]
    return np.stack(lines, axis=1)


def normal(seed: int, shape: Sequence[int], start: int = 0) -> Tensor:
    """Standard normal float32 numbers of a seed.

    Box and Muller's way in float64, so that what mathematics libraries differ in is rounded away.

    Args:
        start: position of the first number in the seed's sequence.
    """
    count = math.prod(shape)
    first, skipped = divmod(start, 4)
    drawn = words(seed, first, -(-(count + skipped) // 4)).reshape(-1, 2)
    radius, turn = ((drawn + 0.5) / 2**32).T
    radius, angle = np.sqrt(-2 * np.log(radius)), 2 * np.pi * turn
    pairs = np.stack([radius * np.cos(angle), radius * np.sin(angle)], axis=1)
    numbers = pairs.ravel()[skipped : skipped + count].astype(np.float32)
    return torch.from_numpy(numbers).view(*shape)


def choice(seed: int, count: int, stream: int = ITEM) -> int:
    """A whole number from 0 to count - 1, at most 2**32, each as likely as any other."""
    word = int(words(seed, 0, 1, stream)[0, 0])
    return word * count >> 32
