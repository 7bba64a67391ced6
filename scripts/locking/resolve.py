"""Resolve one set of the table with uv."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tempfile
from pathlib import Path

from racdino.environment.locks import Pin, normalised, parse_lock
from scripts.locking.table import ResolvedSet, Table

# Oldest C library served: that of RHEL 7 and everything newer.
PLATFORM = "x86_64-manylinux2014"
_NO_ANSWER = re.compile(r"error sending request|dns error|failed to lookup|connection refused|timed out|offline", re.I)


class ResolutionError(RuntimeError):
    """The set has no solution, or uv failed; the message is uv's own last words."""


class RegistryError(RuntimeError):
    """No package registry answers."""


def resolve(uv: Path, table: Table, chosen: ResolvedSet, constraints: dict[str, Pin], previous: Path) -> dict[str, Pin]:
    """The pins of one set. What ``previous`` holds is kept wherever the table still allows it.

    Args:
        constraints: pins of the sets that this one is installed on top of.
    Raises:
        ResolutionError: the requirements contradict each other.
        RegistryError: nothing could be asked.
    """
    with tempfile.TemporaryDirectory(prefix="racdino-lock-") as folder:
        work = Path(folder)
        output = work / "out.lock"
        if previous.is_file():  # versions only: uv would carry the old hashes over unread
            output.write_text("".join(f"{pin.name}=={pin.version}\n" for pin in parse_lock(previous).values()))
        (work / "in.txt").write_text(_requirements(chosen.pins))
        (work / "above.txt").write_text("".join(f"{pin.name}=={pin.version}\n" for pin in constraints.values()))
        (work / "override.txt").write_text(_requirements(table.overrides))
        (work / "exclude.txt").write_text("".join(f"{name}\n" for name in table.excludes))
        (work / "pyproject.toml").write_text(_project(table))
        command = [
            *(str(uv), "pip", "compile", "in.txt", "--output-file", output.name, "--quiet"),
            *("--python", sys.executable, "--python-version", table.python, "--python-platform", PLATFORM),
            *("--constraints", "above.txt", "--overrides", "override.txt", "--excludes", "exclude.txt"),
            *("--exclude-newer", chosen.exclude_newer, "--generate-hashes", "--no-header", "--no-annotate"),
            *("--only-binary", ":all:", *(word for name in chosen.sdists for word in ("--no-binary", name))),
        ]
        answer = subprocess.run(command, cwd=work, capture_output=True, text=True, check=False)
        if answer.returncode:
            kind = RegistryError if is_network_failure(answer.stderr) else ResolutionError
            raise kind(answer.stderr.strip())
        return parse_lock(output)


def is_network_failure(output: str) -> bool:
    """Whether uv failed because nothing answered, by what it printed."""
    return bool(_NO_ANSWER.search(output))


def _requirements(pins: dict[str, str]) -> str:
    return "".join(f"{name}=={version}\n" for name, version in pins.items())


def _project(table: Table) -> str:
    """A project file that gives the metadata of sdists whose setup.py cannot run at lock time."""
    versions = {normalised(name): version for rows in table.sets.values() for name, version in rows.pins.items()}
    rows = "".join(
        f"  {{ name = {json.dumps(name)}, version = {json.dumps(versions[name])}, "
        f"requires-dist = {json.dumps(requires)} }},\n"
        for name, requires in table.metadata.items()
    )
    return (
        f'[project]\nname = "racdino-lock"\nversion = "0"\nrequires-python = ">={table.python}"\n'
        f"[tool.uv]\ndependency-metadata = [\n{rows}]\n"
    )
