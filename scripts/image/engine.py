"""Find the container engine, and ask it the few things that differ between docker and podman.

RACDINO_ENGINE=docker|podman   chooses; without it docker where one answers, else podman.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from scripts.image.errors import ImageError

ENGINES = ("docker", "podman")
_SYSTEM = Path("/usr/bin")
_CDI_FOLDERS = (Path("/etc/cdi"), Path("/var/run/cdi"))
_FIRST_WITHOUT_BUILDER = 23  # from here on docker's client builds through its buildx plugin, and only through it


@dataclass(frozen=True)
class Engine:
    """One client program whose engine has answered.

    Attributes:
        version: of the engine (docker's server; podman is its own).
        rootless: root inside a container is the caller outside.
        builds: docker's client can reach the builder; podman always can.
    """

    name: str
    path: Path
    version: str
    rootless: bool
    builds: bool = True

    def environment(self) -> dict[str, str]:
        """The caller's variables, with docker's BuildKit switched on (20.10 has it and does not use it by itself)."""
        return {**os.environ, "DOCKER_BUILDKIT": "1"}

    def run(
        self,
        arguments: Sequence[str],
        *,
        stdin: IO[bytes] | None = None,
        cwd: Path | None = None,
        variables: dict[str, str] | None = None,
    ) -> None:
        """Run one command of the engine, its output going straight through.

        Raises:
            ImageError: it failed; its own words are above.
        """
        environment = {**self.environment(), **(variables or {})}
        command = [str(self.path), *arguments]
        answer = subprocess.run(command, stdin=stdin, cwd=cwd, env=environment, check=False)
        if answer.returncode:
            ended = f"`{self.name} {arguments[0]}` ended with status {answer.returncode}"
            raise ImageError(f"{ended}; its own words are above.")

    def output(self, arguments: Sequence[str]) -> str:
        """What one command of the engine prints.

        Raises:
            ImageError: it failed; the sentence holds the last line it said.
        """
        command = [str(self.path), *arguments]
        answer = subprocess.run(command, env=self.environment(), capture_output=True, text=True, check=False)
        if answer.returncode:
            raise ImageError(f"`{self.name} {shlex.join(arguments)}` failed: {_last_line(answer.stderr)}")
        return answer.stdout

    def has_image(self, image: str) -> bool:
        """Whether the engine holds an image of this name or id."""
        command = [str(self.path), "image", "inspect", image]
        answer = subprocess.run(command, env=self.environment(), capture_output=True, text=True, check=False)
        if answer.returncode and not re.search(r"no such image|image not known", answer.stderr, re.IGNORECASE):
            raise ImageError(f"`{self.name} image inspect {image}` failed: {_last_line(answer.stderr)}")
        return answer.returncode == 0

    def require_builder(self) -> None:
        """Raise unless this client can build images."""
        if not self.builds:
            raise ImageError(
                f"{self.path} (a docker client of version {_FIRST_WITHOUT_BUILDER} or newer) cannot build without its "
                "buildx plugin: install it (Docker's packages: docker-buildx-plugin; Debian's: docker.io has a client "
                "that needs none), or use podman with RACDINO_ENGINE=podman."
            )

    def gpu_options(self, gpus_present: bool, which: str = "all") -> list[str]:
        """The options that hand NVIDIA GPUs to a container; none on a host without one.

        Args:
            which: `all`, or indices and UUIDs separated by commas.
        Raises:
            ImageError: podman finds no CDI description of the GPUs.
        """
        if not gpus_present:
            return []
        names = which.split(",")
        if self.name == "docker":
            # docker reads the value as a row of CSV, so a list of devices carries quotes of its own.
            return ["--gpus", "all" if which == "all" else f'"device={which}"' if len(names) > 1 else f"device={which}"]
        if not any(_describes_gpus(folder) for folder in _CDI_FOLDERS):
            raise ImageError(
                "podman passes GPUs on by a CDI description and there is none in /etc/cdi or /var/run/cdi: install "
                "NVIDIA's container toolkit and run `sudo nvidia-ctk cdi generate --output=/etc/cdi/nvidia.yaml`."
            )
        return [word for name in names for word in ("--device", f"nvidia.com/gpu={name}")]


def find_engine(requested: str | None = None) -> Engine:
    """The engine to use: what the user says, else docker, else podman.

    Raises:
        ImageError: none is installed, or those that are do not answer.
    """
    chosen = requested or os.environ.get("RACDINO_ENGINE")
    if chosen and chosen not in ENGINES:
        raise ImageError(f"the engine {chosen} is not known: use docker or podman (--engine, RACDINO_ENGINE).")
    problems: list[str] = []
    for name in (chosen,) if chosen else ENGINES:
        answering: list[Engine] = []
        for client in _clients(name):
            found = _ask(client)
            if isinstance(found, str):
                problems.append(found)
            else:
                answering.append(found)
        if answering:
            # A client that can build comes first: a newer one without its plugin may stand before it on PATH.
            return max(answering, key=lambda engine: engine.builds)
    if problems:
        raise ImageError(problems[0])
    raise ImageError(
        f"{f'{chosen} is not' if chosen else 'no container engine is'} installed: apt install docker.io, "
        "apt install podman, or dnf install podman."
    )


def _clients(name: str) -> list[Path]:
    """Every program of this name on PATH and in /usr/bin, each file once."""
    folders = [Path(folder) for folder in os.environ.get("PATH", "").split(os.pathsep) if folder]
    found: dict[Path, Path] = {}
    for candidate in (folder / name for folder in [*folders, _SYSTEM]):
        if os.access(candidate, os.X_OK) and candidate.is_file():  # a folder on PATH may be closed to the caller
            found.setdefault(candidate.resolve(), candidate)
    return list(found.values())


def _ask(client: Path) -> Engine | str:
    """The engine behind a client, or the sentence that says why it does not answer."""
    said = _call(client, "--version")
    if "podman" in said.stdout.lower():  # also podman's own `docker` command
        return _ask_podman(client)
    # The server's version is in no answer of a client alone.
    version = _call(client, "version", "--format", "{{.Server.Version}}")
    if version.returncode or not re.match(r"\d", version.stdout):
        return _why_docker_is_silent(client, said, version)
    options = _call(client, "info", "--format", "{{json .SecurityOptions}}")
    if options.returncode:
        return _unclear(client, "info", options)
    rootless = any("rootless" in option for option in json.loads(options.stdout) or [])
    major = re.search(r"version (\d+)", said.stdout)
    builds = bool(major and int(major[1]) < _FIRST_WITHOUT_BUILDER) or not _call(client, "buildx", "version").returncode
    return Engine("docker", client, version.stdout.strip(), rootless, builds)


def _ask_podman(client: Path) -> Engine | str:
    answer = _call(client, "info", "--format", "{{.Version.Version}} {{.Host.Security.Rootless}}")
    words = answer.stdout.split()
    if answer.returncode or len(words) != 2:
        said = _last_line(answer.stderr)
        return f"{client} is installed but does not work here ({said}): mend what `podman info` names, or use docker."
    return Engine("podman", client, words[0], words[1] == "true")


def _why_docker_is_silent(
    client: Path, said: subprocess.CompletedProcess[str], version: subprocess.CompletedProcess[str]
) -> str:
    if said.returncode:
        return f"{client} is no working docker client ({_last_line(said.stderr)}): reinstall it, or install podman."
    if "permission denied" in version.stderr.lower():
        return (
            "docker is running but you may not use it (permission denied on its socket): add yourself to its group "
            "(`sudo usermod -aG docker $USER`, then log in again), or use podman."
        )
    if re.search(r"cannot connect|is the docker daemon running|no such file|refused", version.stderr, re.IGNORECASE):
        return (
            "docker is installed but its daemon does not answer: start it (`sudo systemctl start docker`), or use "
            "podman."
        )
    return _unclear(client, "version", version)


def _unclear(client: Path, verb: str, answer: subprocess.CompletedProcess[str]) -> str:
    return f"`{client} {verb}` fails ({_last_line(answer.stderr)}): mend that, or use podman."


def _call(client: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [str(client), *arguments]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    except subprocess.TimeoutExpired:
        return subprocess.CompletedProcess(command, 124, "", "cannot connect: no answer in 60 seconds")
    except OSError as error:
        return subprocess.CompletedProcess(command, 126, "", str(error))


def _describes_gpus(folder: Path) -> bool:
    files = [*folder.glob("*.yaml"), *folder.glob("*.json")]
    return any("nvidia.com/gpu" in file.read_text(encoding="utf-8", errors="replace") for file in files)


def _last_line(text: str) -> str:
    lines = text.strip().splitlines()
    return lines[-1] if lines else "it said nothing"
