"""Which folders of the host a container sees, and where.

checkout                        /workspace     the current folder, if it holds train.py or models/ and configs/
outputs/ of the current folder  /outputs       only without a checkout, whose own outputs/ is inside it
$RACDINO_DATA                   data/nuscenes  read-only, where the sources look for it
what a link in data/, pretrain/ or weight/ leads to, at the place where the link looks for it
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from scripts.image.errors import ImageError

WORKSPACE = Path("/workspace")
SOURCES = Path("/opt/racdino")  # the image's own, which run where no checkout is mounted
OUTPUTS = Path("/outputs")
_READ = ("data", "pretrain", "weight")
_WRITTEN = "outputs"
# What the image is made of: a mount on one of these, or above it, would hide it.
_IMAGE = [Path("/opt/python"), Path("/opt/venv"), SOURCES, WORKSPACE, OUTPUTS]
_IMAGE += [Path("/") / name for name in ("bin", "dev", "etc", "lib", "lib64", "proc", "run", "sbin", "sys", "usr")]


@dataclass(frozen=True)
class Mount:
    """One folder or file of the host, and its absolute place in the container."""

    source: Path
    target: Path
    readonly: bool = True

    def option(self) -> str:
        """The value of `--mount`: unlike `--volume` it never makes a folder that is missing on the host."""
        for path in (self.source, self.target):
            if any(character in str(path) for character in ',"\n'):
                raise ImageError(f"{path} has a comma, a quote or a line break in its name: no engine can mount that.")
        return f"type=bind,source={self.source},target={self.target}{',readonly' if self.readonly else ''}"


@dataclass(frozen=True)
class Mounts:
    """What to mount, the host's folders to make first, and remarks for the user."""

    mounts: list[Mount]
    folders: list[Path]
    remarks: list[str]


def find_checkout(folder: Path) -> Path | None:
    """The folder itself where it looks like RaCFormer's or RacDINO's sources."""
    sources = (folder / "train.py").is_file() or all((folder / name).is_dir() for name in ("models", "configs"))
    return folder if sources else None


def plan_mounts(folder: Path, data: str | None) -> Mounts:
    """All mounts for a command given in ``folder``.

    Args:
        data: RACDINO_DATA, a folder in nuScenes' layout.
    Raises:
        ImageError: a folder is missing, is in the way of another, or would hide a part of the image.
    """
    checkout = find_checkout(folder)
    mounts: list[Mount] = []
    folders: list[Path] = []
    remarks: list[str] = []
    if checkout:
        mounts.append(Mount(checkout, WORKSPACE, readonly=False))
        _follow_links(checkout, mounts, remarks)
    else:
        outputs = folder / "outputs"
        folders += [] if outputs.is_dir() else [outputs]
        mounts.append(Mount(outputs, OUTPUTS, readonly=False))
    if data:
        mounts.append(_data_set(Path(data).expanduser().absolute(), checkout))
    return Mounts(mounts, folders, remarks)


def _data_set(data: Path, checkout: Path | None) -> Mount:
    if not data.is_dir():
        raise ImageError(f"RACDINO_DATA={data} is no folder: set it to the one that holds samples/ and sweeps/.")
    if checkout is None:
        return Mount(data, SOURCES / "data" / "nuscenes")
    point = checkout / "data" / "nuscenes"
    for path in (point.parent, point):
        if path.is_symlink():
            raise ImageError(
                f"RACDINO_DATA is set and {path} is a link already: unset RACDINO_DATA to use the link (it is "
                "followed), or remove the link."
            )
    if not point.is_dir():
        raise ImageError(
            f"RACDINO_DATA needs an empty folder to be mounted on and {point} does not exist: run `mkdir -p {point}`, "
            f"or unset RACDINO_DATA and link the data set there (ln -s {data} {point})."
        )
    return Mount(data, WORKSPACE / "data" / "nuscenes")


def _follow_links(checkout: Path, mounts: list[Mount], remarks: list[str]) -> None:
    """Add what the links of the checkout's folders lead to, so that they resolve in the container as well."""
    for name in (*_READ, _WRITTEN):
        top = checkout / name
        place = WORKSPACE / name
        if top.is_symlink():
            place = _follow(top, place.parent, mounts, remarks, readonly=name != _WRITTEN)
        if name in _READ and top.is_dir():
            for entry in sorted(top.iterdir()):
                if entry.is_symlink():
                    _follow(entry, place, mounts, remarks, readonly=True)


def _follow(link: Path, place: Path, mounts: list[Mount], remarks: list[str], *, readonly: bool) -> Path:
    """Mount what a link leads to; ``place`` is its folder in the container. Returns where it is looked for there."""
    text = link.readlink()
    target = Path(os.path.normpath(place / text))
    hop = Path(os.path.normpath(Path(os.path.realpath(link.parent)) / text))
    source = Path(os.path.realpath(link))
    if not os.access(source, os.F_OK):
        remarks.append(f"{link} leads to {source}, which does not exist here, so neither in the container.")
    elif any(target.is_relative_to(mount.target) for mount in mounts):
        if hop.is_symlink():
            return _follow(hop, target.parent, mounts, remarks, readonly=readonly)
    elif any(part.is_relative_to(target) for part in _IMAGE):
        raise ImageError(
            f"{link} leads to {source}, which would be mounted on {target} and hide what the image has there: "
            "link to a folder below it."
        )
    else:
        mounts.append(Mount(source, target, readonly))
    return target
