"""RD810 to RD812: the data set's folder is there and whole."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path

from racdino.doctor.check import Group, Problem, check
from racdino.doctor.checkout.configs.subject import at, configs_of, sections
from racdino.doctor.checkout.configs.text_config import TextConfig
from racdino.doctor.checkout.subject import Checkout
from racdino.doctor.finding import Severity

CAMERAS = ("CAM_FRONT", "CAM_FRONT_RIGHT", "CAM_FRONT_LEFT", "CAM_BACK", "CAM_BACK_LEFT", "CAM_BACK_RIGHT")
RADARS = ("RADAR_FRONT", "RADAR_FRONT_LEFT", "RADAR_FRONT_RIGHT", "RADAR_BACK_LEFT", "RADAR_BACK_RIGHT")
TABLES = (
    *("attribute", "calibrated_sensor", "category", "ego_pose", "instance", "log", "map", "sample"),
    *("sample_annotation", "sample_data", "scene", "sensor", "visibility"),
)
_SECONDS = 2.0  # of counting files, all folders together
_LINK = "link the data set: mkdir -p data && ln -s /path/to/nuscenes data/nuscenes"


@check(
    "RD810",
    Group.DATA,
    "the data set's folder is there",
    severity=Severity.OPTIONAL,
    remedy=_LINK,
    of_checkout=True,
)
def data_set_is_there(checkout: Checkout) -> Iterator[Problem]:
    """Training reads nuScenes from `data_root`, by default `data/nuscenes` in the checkout, which usually is a link to
    a disk of its own. A link that leads nowhere (another mount, a container without the volume) is an error, and so are
    a folder that this user may not read and one whose name differs in upper and lower case only; a folder that is not
    there is optional, since importing, building and testing do without.

    Looked at: the relative `data_root` of every config but those below `outputs/`, which programs make themselves.
    """
    for name, root in data_roots(checkout):
        shown = os.path.relpath(root, checkout.root)
        if _is_folder(root):
            if not os.access(root, os.R_OK | os.X_OK):
                remedy = f"give this user access: sudo chmod -R a+rX {shown}/"
                yield Problem(f"{shown} may not be read by this user", remedy, name, Severity.ERROR)
        elif root.is_symlink():
            cause = f"{shown} is a link to {os.readlink(root)}, which is not there"  # noqa: PTH115 - Python 3.8
            yield Problem(
                cause, f"mount that folder, or link another: ln -sfn /path/to/nuscenes {shown}", name, Severity.ERROR
            )
        elif root.exists():
            yield Problem(f"{shown} is no folder", place=name, severity=Severity.ERROR)
        else:
            alike = _alike(root)
            if alike:
                remedy = f"ln -s {alike} {shown}"
                yield Problem(f"{shown} is missing, {alike} is there", remedy, name, Severity.ERROR)
            else:
                yield Problem(f"{shown} is missing, which {name} reads", place=name)


@check(
    "RD811",
    Group.DATA,
    "the data set has all of its parts",
    remedy="unpack the missing archives into that folder (https://www.nuscenes.org/nuscenes#download); "
    "`racdino data check` then looks at every file",
    of_checkout=True,
)
def parts_are_there(checkout: Checkout) -> Iterator[Problem]:
    """nuScenes comes in ten archives, and one that was forgotten is noticed by the loader at a random sample, as a file
    that is missing (RCBEVDet#16, bevfusion#528). RaCFormer needs six cameras, five radars and the LiDAR key frames in
    `samples`, and cameras and radars in `sweeps`.

    Looked at: the folders, and whether those of a kind hold about as many files as each other (by listing names, two
    seconds at most; nothing is opened): all sensors have exactly one file for each key frame.
    """
    end = time.monotonic() + _SECONDS
    for name, root in data_roots(checkout):
        if not _is_folder(root) or not os.access(root, os.R_OK | os.X_OK):
            continue
        shown = os.path.relpath(root, checkout.root)
        wanted = [f"samples/{sensor}" for sensor in (*CAMERAS, *RADARS, "LIDAR_TOP")]
        wanted += [f"sweeps/{sensor}" for sensor in (*CAMERAS, *RADARS)]
        missing = [part for part in wanted if not _is_folder(root / part)]
        if missing:
            more = f" and {len(missing) - 6} more" if len(missing) > 6 else ""
            yield Problem(f"{shown} has no {', '.join(missing[:6])}{more}", place=name)
            continue
        counts = {part: _count(root / part, end) for part in wanted if part.startswith("samples/")}
        known = {part: count for part, count in counts.items() if count is not None}
        most = max(known.values(), default=0)
        short = [f"{part} {count}" for part, count in known.items() if count < most]
        if short:
            yield Problem(f"{shown} is not whole: {', '.join(short[:6])} of {most} key frames", place=name)


@check(
    "RD812",
    Group.DATA,
    "the data set's tables are whole",
    remedy="unpack the archive of metadata (v1.0-trainval_meta.tgz) into the data set's folder again",
    of_checkout=True,
)
def tables_are_whole(checkout: Checkout) -> Iterator[Problem]:
    """The devkit and `racdino data prepare` read thirteen JSON tables from `v1.0-trainval` (or `v1.0-mini`,
    `v1.0-test`). Where there is no such folder at all, info files that were made elsewhere still train, so that this is
    optional; a folder that lacks tables, or has an empty one, fails.
    """
    for name, root in data_roots(checkout):
        if not _is_folder(root / "samples"):
            continue
        shown = os.path.relpath(root, checkout.root)
        versions = [root / version for version in ("v1.0-trainval", "v1.0-mini", "v1.0-test")]
        there = [version for version in versions if _is_folder(version)]
        if not there:
            yield Problem(f"{shown} has no v1.0-trainval", place=name, severity=Severity.OPTIONAL)
        for version in there:
            lacking = [f"{table}.json" for table in TABLES if not _has_content(version / f"{table}.json")]
            lacking = [file for file in lacking if version.name != "v1.0-test" or "annotation" not in file]
            if lacking:
                yield Problem(f"{shown}/{version.name} lacks {', '.join(lacking[:6])}", place=name)


def data_roots(checkout: Checkout) -> list[tuple[str, Path]]:
    """(the first config that reads it, folder) for every relative ``data_root`` of nuScenes."""
    found: dict[Path, str] = {}
    for name, config in configs_of(checkout).detectors.items():
        for root in _roots(config):
            found.setdefault(Path(os.path.normpath(checkout.root / root)), name)
    return [(name, root) for root, name in found.items()]


def _roots(config: TextConfig) -> Iterator[str]:
    for _, section in sections(at(config.values, "data")):
        root, kind = section.get("data_root"), section.get("type")
        named = isinstance(root, str) and isinstance(kind, str) and "nuscenes" in kind.lower()
        if named and root and not os.path.normpath(root).startswith(("/", "~", "outputs")) and "\0" not in root:
            yield root


def _is_folder(path: Path) -> bool:
    try:
        return path.is_dir()
    except PermissionError:  # of a folder above it
        return False


def _alike(path: Path) -> str:
    try:
        names = sorted(entry.name for entry in path.parent.iterdir())
    except OSError:
        return ""
    return next((name for name in names if name.lower() == path.name.lower()), "")


def _count(folder: Path, end: float) -> int | None:
    """How many files; None where there was no time to count, or this user may not."""
    count = 0
    try:
        with os.scandir(folder) as entries:
            for count, _ in enumerate(entries, start=1):
                if count % 1000 == 0 and time.monotonic() > end:
                    return None
    except OSError:
        return None
    return count


def _has_content(path: Path) -> bool:
    try:
        return path.stat().st_size > 2
    except OSError:
        return False
