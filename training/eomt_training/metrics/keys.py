# SPDX-License-Identifier: MIT
"""float32 scores as unsigned integers of the same order: exact ties, any range, fast sorting."""

from __future__ import annotations

import numpy as np

_SIGN = np.uint32(1 << 31)
END = 1 << 32  # above every key


def to_keys(scores: np.ndarray) -> np.ndarray:
    """Finite float scores -> uint32, a < b exactly where key(a) < key(b); -0 and 0 share a key.

    IEEE 754 bits of non-negative floats are ordered already; those of negative ones are ordered backwards.
    """
    bits = (np.asarray(scores, np.float32) + np.float32(0)).view(np.uint32)  # + 0: -0 becomes 0
    return np.where(bits & _SIGN, ~bits, bits | _SIGN)


def to_scores(keys: np.ndarray) -> np.ndarray:
    """The inverse of `to_keys`: uint32 -> float32."""
    keys = np.asarray(keys, np.uint32)
    return np.where(keys & _SIGN, keys ^ _SIGN, ~keys).view(np.float32)
