"""Random numbers and tokens that depend on the seed and a name alone, whatever was drawn before, in any process."""

from __future__ import annotations

import hashlib

import numpy as np


def _digest(seed: int, *names: object) -> str:
    return hashlib.blake2b("/".join(map(str, (seed, *names))).encode(), digest_size=16).hexdigest()


def generator(seed: int, *names: object) -> np.random.Generator:
    """The generator of the place that ``names`` name."""
    return np.random.Generator(np.random.PCG64(int(_digest(seed, "random", *names), 16)))


def token(seed: int, *names: object) -> str:
    """32 hexadecimal digits, as nuScenes names its records."""
    return _digest(seed, *names)
