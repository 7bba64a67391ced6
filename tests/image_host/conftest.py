"""A host without engines, and shell scripts that answer as docker and podman do."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from scripts.image import engine, run

DOCKER = """
case "$*" in
  --version) echo "Docker version {client}, build 1" ;;
  "version --format "*) echo {server} ;;
  "info --format "*) echo '{security}' ;;
  "buildx version") exit {buildx} ;;
  "image inspect "*) [ "$3" = racdino:latest ] || {{ echo "Error: No such image: $3" >&2; exit 1; }} ;;
  *) printf 'argument=%s\\n' "$@"; exit 7 ;;
esac
"""
PODMAN = """
case "$*" in
  --version) echo "podman version 4.3.1" ;;
  "info --format "*) echo "4.3.1 {rootless}" ;;
  "image inspect "*) [ "$3" = racdino:latest ] || {{ echo "Error: $3: image not known" >&2; exit 125; }} ;;
  *) printf 'argument=%s\\n' "$@"; exit 7 ;;
esac
"""


# Notes each call, words quoted; holds the images that are named in `images`; pulls where `pulls` is there.
NOTING = """
folder='{folder}'
printf '%s\\n' "$@" ---- >>"$folder/said"
case "$1 $2" in
"image inspect") grep -qx "$3" "$folder/images" || {{ echo "Error: No such image: $3" >&2; exit 1; }} ;;
"pull "*) [ -e "$folder/pulls" ] && echo "$3" >>"$folder/images" ;;
"import "*) cat "$2" >/dev/null && echo "$3" >>"$folder/images" ;;
"build "*) echo '#1 [internal] load'; exit "$(cat "$folder/ends")" ;;
"--version "*) echo "Docker version 20.10.24, build 1" ;;
"version --format") echo 20.10.24 ;;
"info --format") echo '[]' ;;
*) exit 9 ;;
esac
"""


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Path]:
    """Put a program into a folder of its own at the end of a PATH that starts with a shell alone."""
    folders = [tmp_path / "shell"]
    folders[0].mkdir()
    (folders[0] / "sh").symlink_to("/bin/sh")
    monkeypatch.setenv("PATH", str(folders[0]))
    monkeypatch.setattr(engine, "_SYSTEM", tmp_path / "no usr bin")
    monkeypatch.setattr(engine, "_CDI_FOLDERS", (tmp_path / "cdi",))
    monkeypatch.setattr(run, "has_nvidia_gpu", lambda: False)
    monkeypatch.setattr(run, "_SELINUX", tmp_path / "no selinux")
    (tmp_path / "status").write_text("CapEff:\t0000000000000000\nCapBnd:\t000001ffffffffff\n")
    monkeypatch.setattr(run, "_STATUS", tmp_path / "status")
    for name in ("RACDINO_ENGINE", "RACDINO_DATA"):
        monkeypatch.delenv(name, raising=False)

    def program(name: str, script: str) -> Path:
        folder = tmp_path / f"path{len(folders)}"
        folder.mkdir()
        (folder / name).write_text(f"#!/bin/sh\n{script}\n")
        (folder / name).chmod(0o755)
        folders.append(folder)
        monkeypatch.setenv("PATH", ":".join(map(str, folders)))
        return folder / name

    return program


@pytest.fixture
def docker(place: Callable[..., Path]) -> Callable[..., Path]:
    def script(client: str = "20.10.24", server: str = "20.10.24", security: str = "[]", buildx: int = 1) -> Path:
        return place("docker", DOCKER.format(client=client, server=server, security=security, buildx=buildx))

    return script


@pytest.fixture
def podman(place: Callable[..., Path]) -> Callable[..., Path]:
    def script(rootless: str = "true", name: str = "podman") -> Path:
        return place(name, PODMAN.format(rootless=rootless))

    return script


@pytest.fixture
def client(place: Callable[..., Path], tmp_path: Path) -> engine.Engine:
    """A docker whose build ends with the status in tmp_path/ends; see NOTING."""
    (tmp_path / "images").write_text("present:1\n")
    (tmp_path / "ends").write_text("0")
    program = place("docker", NOTING.format(folder=tmp_path))
    for name in ("cat", "git", "grep", "sha256sum", "tar"):
        (tmp_path / "shell" / name).symlink_to(str(shutil.which(name, path=os.defpath)))
    return engine.Engine("docker", program, "20.10.24", rootless=False)


@pytest.fixture
def calls(tmp_path: Path) -> Callable[[], list[list[str]]]:
    """The words of each call that ``client`` has noted."""

    def read() -> list[list[str]]:
        text = (tmp_path / "said").read_text() if (tmp_path / "said").exists() else ""
        return [call.splitlines() for call in text.split("----\n") if call]

    return read
