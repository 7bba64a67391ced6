"""docker/install-packages asks uv for every locked package but those that are compiled, and for a bundle's files."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from racdino.environment.locks import parse_lock
from scripts.setup.plan import COMPILED

ROOT = Path(__file__).resolve().parents[2]
UV = """#!/bin/sh
folder=$(dirname "$0")
printf '%s\\n' "$*" >>"$folder/said"
for last; do :; done
[ "$1" = venv ] || cp "$last" "$folder/$(basename "$last")"
"""


@pytest.fixture
def install(tmp_path: Path) -> Callable[..., list[str]]:
    """Run the script, its fixed folders moved below tmp_path, and return what uv was asked; it keeps each file."""
    (tmp_path / "locks").mkdir()
    (tmp_path / "mnt" / "seed").mkdir(parents=True)
    script = (ROOT / "docker" / "install-packages").read_text()
    assert "/mnt/seed/uv" in script
    (tmp_path / "locks" / "install-packages").write_text(script.replace("/mnt/", f"{tmp_path}/mnt/"))
    (tmp_path / "locks" / "forget-origins").write_text("#!/bin/sh\n")  # there is no environment; it has a test below
    (tmp_path / "locks" / "forget-origins").chmod(0o755)
    for lock in (ROOT / "environment").glob("*.lock"):
        (tmp_path / "locks" / lock.name).write_bytes(lock.read_bytes())
    (tmp_path / "mnt" / "seed" / "uv").write_text(UV)
    (tmp_path / "mnt" / "seed" / "uv").chmod(0o755)

    def run(*arguments: str, **variables: str) -> list[str]:
        command = ["sh", tmp_path / "locks" / "install-packages", *arguments]
        subprocess.run(command, env={"PATH": "/usr/bin:/bin", **variables}, check=True)
        return (tmp_path / "mnt" / "seed" / "said").read_text().splitlines()

    return run


def entries(text: str) -> dict[str, str]:
    """Each entry of a lock, its hashes with it, by the first line."""
    found: dict[str, list[str]] = {}
    for line in text.splitlines():
        if line.startswith(" "):
            list(found.values())[-1].append(line)
        elif not line.startswith("#"):
            found[line] = []
    return {head: "\n".join(lines) for head, lines in found.items()}


@pytest.mark.parametrize("variant", ["cpu", "cu118"])
def test_every_package_is_installed_but_those_that_are_compiled(install, tmp_path, variant):
    venv, build, packages = install(variant, "/opt/venv")
    assert venv.startswith("venv ")
    assert build.endswith("/build.lock")
    assert "--require-hashes" in packages
    assert "--offline" not in packages
    whole = entries((ROOT / "environment" / f"{variant}.lock").read_text())
    expected = {head: body for head, body in whole.items() if head.partition("==")[0] not in COMPILED}
    assert len(whole) - len(expected) == 2  # mmcv-full and mmdet3d; flash-attn has a lock of its own
    assert entries((tmp_path / "mnt" / "seed" / f"{variant}.txt").read_text()) == expected


def test_flash_attn_is_compiled_wherever_it_is_locked(install, tmp_path):
    lock = tmp_path / "locks" / "cpu.lock"
    pins = {"flash-attn==2.3.5": "a" * 64, "six==1.16.0": "b" * 64}
    lock.write_text("".join(f"{pin} \\\n    --hash=sha256:{value}\n" for pin, value in pins.items()))
    install("cpu", "/opt/venv")
    assert list(parse_lock(tmp_path / "mnt" / "seed" / "cpu.txt")) == ["six"]


def test_a_bundle_takes_the_place_of_every_address(install, tmp_path):
    bundle = tmp_path / "mnt" / "bundle" / "python"
    bundle.mkdir(parents=True)
    _, build, packages = install("cu118", "/opt/venv")
    for command in (build, packages):
        assert f"--offline --no-index --find-links {bundle} --requirement" in command
    text = (tmp_path / "mnt" / "seed" / "cu118.txt").read_text()
    assert "https://" not in text
    for name in ("torch-2.0.0", "torchvision-0.15.1"):
        assert f" @ file://{bundle}/{name}+cu118-cp310-cp310-linux_x86_64.whl \\\n    --hash=sha256:" in text


def test_a_lock_is_added_to_an_environment_that_is_there(install, tmp_path):
    (only,) = install("--add", "dev.lock", "/opt/venv")
    assert only.startswith("pip install ")
    assert "--python /opt/venv/bin/python" in only
    assert (tmp_path / "mnt" / "seed" / "added.txt").read_text() == (ROOT / "environment" / "dev.lock").read_text()


def test_what_uv_notes_about_a_local_file_goes_and_nothing_else(tmp_path):
    """The note holds the file's time, so it differs from build to build."""
    info = tmp_path / "lib" / "python3.10" / "site-packages" / "six-1.16.0.dist-info"
    info.mkdir(parents=True)
    (info / "uv_cache.json").write_text('{"timestamp": 1}')
    kept = "six.py,sha256=x,1\nsix-1.16.0.dist-info/METADATA,sha256=y,2\n"
    (info / "RECORD").write_text(kept + "six-1.16.0.dist-info/uv_cache.json,sha256=z,3\n")
    subprocess.run([ROOT / "docker" / "forget-origins", tmp_path], check=True)
    assert not (info / "uv_cache.json").exists()
    assert (info / "RECORD").read_text() == kept
