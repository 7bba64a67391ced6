"""Which file a dotted name means: in the checkout as Python would look it up, and outside it without importing."""

from __future__ import annotations

import importlib.machinery
import importlib.util
import re
import sys
import sysconfig
from functools import lru_cache
from pathlib import PurePosixPath

from racdino.doctor.checkout.subject import Checkout

# What the locks install and `racdino doctor` checks under RD3xx to RD5xx: absent, it is the environment that is wrong.
_LOCKED = (
    "torch torchvision mmcv mmdet mmdet3d mmseg mmcls numpy scipy cv2 PIL yaml skimage sklearn pandas matplotlib "
    "nuscenes pyquaternion shapely einops timm tqdm loguru seaborn spconv cumm flash_attn xformers numba pycocotools "
    "tensorboard safetensors turbojpeg triton MultiScaleDeformableAttention racdino setuptools packaging"
)
LOCKED = frozenset(_LOCKED.split())
_IDENTIFIER = re.compile(r"[^\W\d]\w*$")
_SUFFIXES = importlib.machinery.EXTENSION_SUFFIXES  # of this Python alone


class Modules:
    """The modules of a checkout, by dotted name from each folder that Python searches.

    Attributes:
        roots: folders that are searched, relative to the checkout; the first is the checkout itself.
        inside_package: the checkout is a package itself, so that relative imports may lead out of it.
    """

    def __init__(self, checkout: Checkout, roots: tuple[str, ...] = ("",)) -> None:
        self.checkout = checkout
        self.roots = roots
        self._files = frozenset(name for name in checkout.names if name.endswith(".py"))
        self._folders = frozenset(checkout.folders)
        self.inside_package = "__init__.py" in self._files
        self._linked = frozenset(checkout.linked)
        compiled = {compiled_name(name): name for name in checkout.names if name.endswith(".so")}
        self._compiled = {bare: name for bare, name in compiled.items() if name[len(bare) :] in _SUFFIXES}
        self._strange = {bare: name for bare, name in compiled.items() if bare not in self._compiled}

    def find(self, dotted: str) -> str | None:
        """The file of a module or package, or a folder without ``__init__.py`` or behind a link; None if none is."""
        return next((found for root in self.roots if (found := self.below(root, dotted)) is not None), None)

    def below(self, folder: str, dotted: str) -> str | None:
        """The same, searched in one folder."""
        path = str(PurePosixPath(folder, *dotted.split(".")))
        for file in (f"{path}/__init__.py", f"{path}.py"):
            if file in self._files:
                return file
        if path in self._compiled:
            return self._compiled[path]
        behind_link = any(str(parent) in self._linked for parent in PurePosixPath(path).parents)
        return path if behind_link or path in self._folders or path in self._linked else None

    def compiled_for_another(self, dotted: str) -> str | None:
        """The compiled file of a module that this Python does not look at."""
        paths = (str(PurePosixPath(root, *dotted.split("."))) for root in self.roots)
        return next((self._strange[path] for path in paths if path in self._strange), None)

    def dotted(self, file: str) -> str:
        """``models/backbones/__init__.py`` is ``models.backbones``."""
        path = PurePosixPath(file).with_suffix("") if file.endswith(".py") else PurePosixPath(compiled_name(file))
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
                found = ".".join((*parent.parts, module))
                # A module or package that asks for its own name means somebody else's: mmcv/tensorrt asks for tensorrt.
                return None if f"{self.dotted(file)}.".startswith(f"{found}.") else found
        return None

    def importable(self, file: str) -> bool:
        """Whether every folder that the file is in is a package, up to the checkout's own."""
        return all(self.is_package(str(folder)) for folder in [*PurePosixPath(file).parents][:-1])

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
    return name in LOCKED or standard(name) or installed(name) is not None


def standard(name: str) -> bool:
    """Whether a top-level name is a module of this Python's own library."""
    if name in sys.builtin_module_names or name in getattr(sys, "stdlib_module_names", ()):
        return True
    library = sysconfig.get_paths()["stdlib"]
    spec = importlib.machinery.PathFinder.find_spec(name, [library, f"{library}/lib-dynload"])
    return spec is not None and spec.loader is not None  # site-packages lies there as well, a folder without code


@lru_cache(maxsize=None)  # noqa: UP033
def installed(name: str) -> str | None:
    """Where a top-level name lies that every program of this environment finds. Looked up, not imported."""
    try:
        spec = importlib.util.find_spec(name)
    except (ImportError, ValueError, AttributeError):  # what a broken installation's finder may raise
        return None
    return None if spec is None else spec.origin or next(iter(spec.submodule_search_locations or ()), name)


def compiled_name(file: str) -> str:
    """``csrc/op.cpython-310-x86_64-linux-gnu.so`` is ``csrc/op``, for whichever Python it was compiled."""
    folder, _, name = file.rpartition("/")
    bare = name.split(".")[0] if name.endswith(".so") else name
    return f"{folder}/{bare}" if folder else bare
