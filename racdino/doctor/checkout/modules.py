"""Which file a dotted name means: in the checkout as Python would look it up, and outside it without importing."""

from __future__ import annotations

import importlib.util
import re
import sys
from functools import lru_cache
from pathlib import Path, PurePosixPath

from racdino.doctor.checkout.subject import Checkout

# What the locks install and `racdino doctor` checks under RD3xx to RD5xx: absent, it is the environment that is wrong.
_LOCKED = (
    "torch torchvision mmcv mmdet mmdet3d mmseg mmcls numpy scipy cv2 PIL yaml skimage sklearn pandas matplotlib "
    "nuscenes pyquaternion shapely einops timm tqdm loguru seaborn spconv cumm flash_attn xformers numba pycocotools "
    "tensorboard safetensors turbojpeg triton MultiScaleDeformableAttention racdino setuptools packaging"
)
LOCKED = frozenset(_LOCKED.split())
_IDENTIFIER = re.compile(r"[^\W\d]\w*$")
_PROJECT = Path(__file__).resolve().parents[3]


class Modules:
    """The modules of a checkout, by dotted name from each folder that Python searches.

    Attributes:
        roots: folders that are searched, relative to the checkout; the first is the checkout itself.
    """

    def __init__(self, checkout: Checkout, roots: tuple[str, ...] = ("",)) -> None:
        self.checkout = checkout
        self.roots = roots
        self._files = frozenset(name for name in checkout.names if name.endswith(".py"))
        self._folders = frozenset(checkout.folders)

    def find(self, dotted: str) -> str | None:
        """The file of a module or package, or the folder of one without ``__init__.py``; None where there is none."""
        return next((found for root in self.roots if (found := self.below(root, dotted)) is not None), None)

    def below(self, folder: str, dotted: str) -> str | None:
        """The same, searched in one folder."""
        path = str(PurePosixPath(folder, *dotted.split(".")))
        for file in (f"{path}/__init__.py", f"{path}.py"):
            if file in self._files:
                return file
        return path if path in self._folders else None

    def dotted(self, file: str) -> str:
        """``models/backbones/__init__.py`` is ``models.backbones``."""
        path = PurePosixPath(file).with_suffix("") if file.endswith(".py") else PurePosixPath(file)
        parts = path.parts[:-1] if path.name == "__init__" else path.parts
        return ".".join(parts)

    def package(self, file: str) -> str:
        """The package that a module's relative imports start from, dotted; empty at the top."""
        return ".".join(PurePosixPath(file).parts[:-1])

    def meant(self, file: str, module: str) -> str | None:
        """What an absolute import can only mean: the dotted name, from the top, of a module beside the file's package
        or beside one around it. None where the name is found without that, or the file is in no package."""
        top = module.split(".")[0]
        folder = PurePosixPath(file).parent
        if not self.is_package(str(folder)) or self.below("", top) is not None or outside(top):
            return None
        for parent in [folder, *folder.parents][:-1]:
            beside = self.below(str(parent), top)
            if beside and (beside.endswith(".py") or self.is_package(beside)) and self.below(str(parent), module):
                return ".".join((*parent.parts, module))
        return None

    def is_package(self, folder: str) -> bool:
        """Whether a folder has an ``__init__.py``; the top of the checkout does not count."""
        return f"{folder}/__init__.py" in self._files

    @property
    def tops(self) -> list[str]:
        """Modules and packages that can be imported from the checkout's folder."""
        files = [
            name for name in self._files if "/" not in name or (name.count("/") == 1 and name.endswith("/__init__.py"))
        ]
        return sorted(top for top in map(self.dotted, files) if _IDENTIFIER.match(top))


@lru_cache(maxsize=None)  # noqa: UP033  (Python 3.8 has no cache)
def outside(name: str) -> bool:
    """Whether a top-level name is the standard library's, installed, or one that the locks install."""
    if name in LOCKED or name in sys.builtin_module_names or name in getattr(sys, "stdlib_module_names", ()):
        return True
    try:
        spec = importlib.util.find_spec(name)  # of a top-level name: finds the file, executes nothing
    except (ImportError, ValueError, AttributeError):
        return False
    if spec is None:
        return False
    # Where the doctor runs from RacDINO's folder, its `models` and `loaders` are on the path, and nobody else's.
    places = [spec.origin or "", *(spec.submodule_search_locations or ())]
    return not any(place.startswith(f"{_PROJECT}/") and "site-packages" not in place for place in places)
