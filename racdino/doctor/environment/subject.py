"""The environment as the checks see it: installed packages by their folders, locks, driver, variables."""

from __future__ import annotations

import os
import re
import sys
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from racdino.doctor.environment.loading import Loads, load_all
from racdino.doctor.gpu_driver import Driver, probe
from racdino.environment import image
from racdino.environment.cubins import Targets, installed_targets
from racdino.environment.locks import LOCKS, LockError, Pin, normalised, parse_lock
from racdino.environment.manifest import NOTES

_DIST_INFO = re.compile(r"(?P<name>.+?)-(?P<version>[^-]+)(-py3\.\d+)?\.(dist-info|egg-info)$")


@dataclass(frozen=True)
class Installed:
    """One installed distribution: its ``.dist-info`` or ``.egg-info`` folder."""

    name: str
    version: str
    folder: Path

    @property
    def release(self) -> tuple[int, ...]:
        """``1.23.5`` is (1, 23, 5); what follows the numbers is left out."""
        found = re.match(r"\d+(?:\.\d+)*", self.version)
        return tuple(int(part) for part in found[0].split(".")) if found else ()


class Environment:
    """What the checks of the environment look at; each part is found out when it is first asked for.

    Args:
        prefix: the environment's folder.
        variables: the process's environment variables.
        path: the folders that Python searches.
        driver: stands in for the real one.
        variant: ``cpu`` or ``cu118``, instead of what its setup noted.
        targets: the GPUs that its libraries have code for, instead of what is read from them.
    """

    def __init__(
        self,
        prefix: Path | None = None,
        variables: Mapping[str, str] | None = None,
        path: list[str] | None = None,
        driver: Driver | None = None,
        variant: str | None = None,
        targets: Mapping[str, Targets] | None = None,
    ) -> None:
        self.prefix = Path(sys.prefix) if prefix is None else prefix
        self.variables = dict(os.environ if variables is None else variables)
        self.path = list(sys.path if path is None else path)
        self._driver, self._variant, self._targets = driver, variant, targets

    @cached_property
    def distributions(self) -> dict[str, list[Installed]]:
        """Every installed distribution by canonical name; the first of several is the one that is imported."""
        found: dict[str, list[Installed]] = defaultdict(list)
        for folder in dict.fromkeys(self.path):
            for entry in sorted(_entries(folder)):
                match = _DIST_INFO.match(entry.name)
                if match:
                    name = normalised(match["name"])
                    found[name].append(Installed(name, match["version"], entry))
        return dict(found)

    def get(self, name: str) -> Installed | None:
        """The distribution of that name that is imported."""
        return self.distributions.get(normalised(name), [None])[0]

    def shadows(self, found: Installed) -> bool:
        """Whether it lies in ``PYTHONPATH`` or ``~/.local``: that place is then the problem, not the version."""
        named = filter(None, self.variables.get("PYTHONPATH", "").split(os.pathsep))
        return found.folder.parent in {Path(folder) for folder in named} or ".local" in found.folder.parts

    @cached_property
    def variant(self) -> str | None:
        """``cpu`` or ``cu118``; None in an environment that is not RacDINO's."""
        return self._variant or self._noted[0]

    @property
    def damaged_note(self) -> str:
        """Why setup's or the image's note of the variant cannot be read; empty where it can, or where there is none."""
        return self._noted[1]

    @cached_property
    def _noted(self) -> tuple[str | None, str]:
        try:
            return image.variant(self.prefix), ""
        except (OSError, ValueError, KeyError, TypeError) as error:
            return None, f"the notes in {self.prefix / NOTES} cannot be read: {type(error).__name__}: {error}"

    @cached_property
    def pins(self) -> dict[str, Pin]:
        """What the locks of this variant install; of ``cu118`` in an environment that is not RacDINO's."""
        locks = ("build.lock", f"{self.variant or 'cu118'}.lock")
        try:
            return {name: pin for lock in locks for name, pin in parse_lock(LOCKS / lock).items()}
        except LockError:
            return {}

    @cached_property
    def driver(self) -> Driver:
        """The NVIDIA driver."""
        return self._driver or probe()

    @cached_property
    def targets(self) -> dict[str, Targets]:
        """The GPUs that each installed library has code for, by its name in `cubins.LIBRARIES`."""
        if self._targets is not None:
            return dict(self._targets)
        return installed_targets([Path(folder) for folder in self.path if folder])

    @cached_property
    def loads(self) -> Loads:
        """What loading torch and the extensions gave, in a process of its own."""
        return load_all(self.python, self.variables)

    @property
    def python(self) -> str:
        """The interpreter of the environment."""
        return str(self.prefix / "bin" / "python") if (self.prefix / "bin" / "python").exists() else sys.executable


def _entries(folder: str) -> list[Path]:
    try:
        return list(Path(folder or ".").iterdir())
    except OSError:  # most of sys.path need not exist: a zip, a folder of another installation
        return []
