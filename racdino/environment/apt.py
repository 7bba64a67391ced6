"""Read environment/apt.lock: every Debian package of the image, by exact version, hash and place in the archive.

One line a package, so that the shell of a bare Debian reads it as well (docker/fetch-debs):
``SETS NAME VERSION ARCHITECTURE SHA256 SIZE ARCHIVE POOL-PATH``.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

from racdino.environment.locks import LOCKS, LockError

APT_LOCK = LOCKS / "apt.lock"


@dataclass(frozen=True)
class Deb:
    """One package.

    sets: the stages of the image that need it. size: bytes of the file. archive: ``debian`` or ``debian-security``.
    pool_path: of the file in that archive.
    """

    sets: tuple[str, ...]
    name: str
    version: str
    arch: str
    sha256: str
    size: int
    archive: str
    pool_path: str

    @property
    def file(self) -> str:
        """The file's name."""
        return self.pool_path.rpartition("/")[2]

    def line(self) -> str:
        """The package's line in the lock."""
        words = (",".join(self.sets), self.name, self.version, self.arch, self.sha256)
        return " ".join((*words, str(self.size), self.archive, self.pool_path))


def parse_apt_lock(path: str | Path = APT_LOCK, sets: Collection[str] | None = None) -> dict[str, Deb]:
    """The packages of the lock by name; of the named sets only, where ``sets`` is given.

    Raises:
        LockError: the file is missing, or a line is not a package.
    """
    path = Path(path)
    if not path.is_file():
        raise LockError(f"{path} does not exist; `invoke lock --apt` makes it from environment/pins.toml.")
    debs = {}
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
        if line.startswith("#"):
            continue
        words = line.split(" ")
        if len(words) != 8 or not words[5].isdigit() or len(words[4]) != 64:
            raise LockError(f"{path}:{number} is not `SETS NAME VERSION ARCH SHA256 SIZE ARCHIVE PATH`.")
        names, name, version, arch, sha256, size, archive, pool_path = words
        deb = Deb(tuple(names.split(",")), name, version, arch, sha256, int(size), archive, pool_path)
        if sets is None or set(deb.sets) & set(sets):
            debs[name] = deb
    return debs
