"""Python's, numpy's and torch's global random generators: seeded, kept in plain types, brought back."""

from __future__ import annotations

import contextlib
import hashlib
import random
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch


def mixed_seed(*numbers: int) -> int:
    """One seed below 2**63 made of ``numbers``, in which their order counts."""
    digest = hashlib.blake2b(repr(numbers).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little") >> 1


def seed_all(*numbers: int) -> None:
    """Seed every global generator of this process with `mixed_seed`."""
    seed = mixed_seed(*numbers)
    random.seed(seed)
    np.random.seed(seed % 2**32)
    torch.manual_seed(seed)


def random_state() -> dict[str, Any]:
    """The state of every global generator of this process, as numbers, tuples and tensors."""
    name, keys, *rest = np.random.get_state()
    return {
        "python": random.getstate(),
        "numpy": (name, torch.from_numpy(np.asarray(keys, dtype=np.int64)), *rest),
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state() if torch.cuda.is_available() else None,
    }


def restore_random_state(state: dict[str, Any]) -> None:
    """Bring back what `random_state` returned; the CUDA generator only where there is CUDA now and was then."""
    version, internal, gauss = state["python"]
    random.setstate((version, tuple(internal), gauss))
    name, keys, *rest = state["numpy"]
    np.random.set_state((name, keys.numpy().astype(np.uint32), *rest))
    torch.set_rng_state(state["torch"].clone())
    if state["cuda"] is not None and torch.cuda.is_available():
        torch.cuda.set_rng_state(state["cuda"].clone())


@contextlib.contextmanager
def kept_random_state() -> Iterator[None]:
    """Whatever is drawn inside leaves the global generators as they were."""
    state = random_state()
    try:
        yield
    finally:
        restore_random_state(state)
