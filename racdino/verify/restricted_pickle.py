"""Read a pickle of plain containers and numpy values without running anything it names."""

from __future__ import annotations

import _codecs
import pickle
from pathlib import Path
from typing import Any

import numpy as np

# What numpy's own pickles name, on numpy 1 and 2; everything else is refused.
_ALLOWED: dict[tuple[str, str], Any] = {
    ("_codecs", "encode"): _codecs.encode,
    ("numpy", "dtype"): np.dtype,
    ("numpy", "ndarray"): np.ndarray,
}
for _module in ("numpy.core.multiarray", "numpy._core.multiarray"):
    for _name in ("scalar", "_reconstruct"):
        _ALLOWED[_module, _name] = getattr(np.core.multiarray, _name)


class _Unpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        try:
            return _ALLOWED[module, name]
        except KeyError:
            raise pickle.UnpicklingError(f"it names {module}.{name}, which is no plain data") from None


def load(path: Path) -> Any:
    """The object in ``path``.

    Raises:
        pickle.UnpicklingError: the file is no pickle, is cut off, or names anything but containers and numpy values.
    """
    with path.open("rb") as file:
        try:
            return _Unpickler(file).load()
        except pickle.UnpicklingError:
            raise
        except Exception as error:  # a damaged pickle can raise almost any type
            raise pickle.UnpicklingError(f"it is damaged ({type(error).__name__}: {error})") from error
