"""The environment as the checks see it: installed packages by their folders, locks, driver, variables."""

from __future__ import annotations

import os
import re
import sys
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from racdino.doctor.check import Problem
from racdino.doctor.environment.loading import Loads, load_all
from racdino.doctor.finding import Finding
from racdino.doctor.gpu_driver import Driver, probe
from racdino.doctor.machine_checks import machine_findings
from racdino.environment import image
from racdino.environment.locks import LOCKS, LockError, Pin, normalised, parse_lock

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
    """

    def __init__(
        self,
        prefix: Path | None = None,
        variables: Mapping[str, str] | None = None,
        path: list[str] | None = None,
        driver: Driver | None = None,
        variant: str | None = None,
    ) -> None:
        self.prefix = Path(sys.prefix) if prefix is None else prefix
        self.variables = dict(os.environ if variables is None else variables)
        self.path = list(sys.path if path is None else path)
        self._driver, self._variant = driver, variant

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

    @cached_property
    def variant(self) -> str | None:
        """``cpu`` or ``cu118``; None in an environment that is not RacDINO's."""
        return self._variant or image.variant(self.prefix)

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
    def _machine(self) -> list[Finding]:
        return list(machine_findings(self.driver))

    def of_machine(self, code: str) -> Iterator[Problem]:
        """What one of the machine's checks found, its facts too."""
        for finding in self._machine:
            if finding.code == code:
                yield Problem(finding.cause, finding.remedy, severity=finding.severity)

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
