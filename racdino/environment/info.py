"""Behind ``racdino info``: what this image or environment is, from the notes that its build left in it."""

from __future__ import annotations

import json
import platform
import sys
from dataclasses import asdict
from typing import Any

import racdino
from racdino.environment import cubins
from racdino.environment.image import read_image, read_sbom
from racdino.environment.manifest import installed_versions
from racdino.environment.state import read_state

SHOWN = ("torch", "torchvision", "mmcv-full", "mmdet", "mmdet3d", "xformers", "flash-attn", "spconv-cu118", "numpy")


def facts(prefix: str) -> dict[str, Any]:
    """Everything known about the environment at ``prefix``, as JSON values.

    ``image`` is the image's own record, null outside one. ``locks`` holds sha256 by lock, ``packages`` the versions of
    those that decide whether the others work, ``cubins`` the GPU targets of the compiled libraries where recorded.
    """
    image, state = read_image(prefix), read_state(prefix)
    installed = installed_versions(prefix)
    noted: dict[str, Any] = image or (asdict(state) if state else {})
    return {
        "version": racdino.__version__,
        "variant": noted.get("variant"),
        "python": platform.python_version(),
        "image": image,
        "packages": {name: installed.get(name, "not installed") for name in SHOWN},
        "cubins": {name: asdict(of) for name, of in cubins.by_library(cubins.read(prefix) or {}).items()},
        "locks": noted.get("locks", {}),
    }


def as_json(prefix: str = sys.prefix) -> str:
    """The facts and ``sbom``, the image's CycloneDX document (null outside an image), as one object."""
    return json.dumps({**facts(prefix), "sbom": read_sbom(prefix)}, indent=1, ensure_ascii=False)


def as_text(prefix: str = sys.prefix) -> str:
    """The facts, a line each, aligned."""
    known = facts(prefix)
    lines = {"racdino": known["version"], "variant": known["variant"] or "none: `make setup` did not make this"}
    if image := known["image"]:
        lines["revision"] = f"{image['revision']}, image of {image['created']}"
        lines["base"] = f"{image['base']['name']}, {image['base']['origin']}"
        lines["python"] = f"{image['python']['version']}, {_ORIGINS[image['python']['origin']]}"
        lines["GPU targets"] = " ".join(image["arch-list"]) or "none"
    else:
        lines["python"] = known["python"]
    lines |= known["packages"]
    for name, of in known["cubins"].items():
        lines[f"{name} runs on"] = str(cubins.Targets(tuple(of["cubins"]), tuple(of["ptx"])))
    lines |= {name: f"sha256 {digest}" for name, digest in known["locks"].items()}
    return "\n".join(f"{name:<22}  {value}" for name, value in lines.items())


_ORIGINS = {"uv": "the build that uv fetches", "host": "the building machine's, relocated"}
