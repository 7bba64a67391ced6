"""docker/Dockerfile is readable by the oldest engines, takes only what the checkout has, and repeats no version."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
from fnmatch import fnmatch
from pathlib import Path

import pytest

from scripts.image.build import ADDRESSES
from scripts.locking.table import Table, read_table

ROOT = Path(__file__).resolve().parents[2]
TEXT = (ROOT / "docker" / "Dockerfile").read_text()


def instructions() -> list[tuple[str, str]]:
    """(keyword, rest) of each instruction, continuation lines joined."""
    lines = "\n".join(line for line in TEXT.splitlines() if not line.startswith("#")).replace("\\\n", " ")
    return [(words[0], words[2]) for line in lines.splitlines() if (words := line.partition(" "))[0]]


def stages() -> dict[str, tuple[str, list[tuple[str, str]]]]:
    """What each stage stands on, and its instructions, by name."""
    found: dict[str, tuple[str, list[tuple[str, str]]]] = {}
    for keyword, rest in instructions():
        if keyword == "FROM":
            base, _, name = rest.partition(" AS ")
            found[name] = (base, [])
        elif found:
            list(found.values())[-1][1].append((keyword, rest))
    return found


def copies(stage: str) -> list[tuple[list[str], str]]:
    """(sources, target) of what a stage takes from the checkout."""
    words = [shlex.split(rest) for keyword, rest in stages()[stage][1] if keyword == "COPY"]
    return [(given[:-1], given[-1]) for given in words if not given[0].startswith("--from=")]


def assemble(stage: str, folder: Path) -> None:
    """The content of a stage on scratch, of this checkout's files."""
    base = stages()[stage][0]
    if base != "scratch":
        assemble(base, folder)
    for sources, target in copies(stage):
        for source in sources:
            for path in ROOT.glob(source):
                place = folder / target.lstrip("/")
                if path.is_dir():
                    shutil.copytree(path, place, ignore=shutil.ignore_patterns("__pycache__"), dirs_exist_ok=True)
                else:
                    into = place / path.name if target.endswith("/") else place
                    into.parent.mkdir(parents=True, exist_ok=True)
                    shutil.copy(path, into)


def ignored(path: str) -> bool:
    """Whether .dockerignore keeps a path of the checkout from the engine: the last pattern that fits decides."""
    answer = False
    parts = path.split("/")
    for line in (ROOT / ".dockerignore").read_text().splitlines():
        pattern = line.removeprefix("!")
        if not line or line.startswith("#"):
            continue
        prefixes = ["/".join(parts[:end]) for end in range(1, len(parts) + 1)]
        anywhere = pattern.startswith("**/") and any(fnmatch(part, pattern[3:]) for part in parts)
        same_depth = any(prefix.count("/") == pattern.count("/") and fnmatch(prefix, pattern) for prefix in prefixes)
        if anywhere or same_depth:
            answer = not line.startswith("!")
    return answer


@pytest.fixture(scope="module")
def table() -> Table:
    return read_table(ROOT / "environment" / "pins.toml")


def test_the_base_is_the_one_in_the_table(table: Table):
    assert [rest for keyword, rest in instructions() if keyword == "ARG" and rest.startswith("BASE=")] == [
        f"BASE={table.image['base']}"
    ]


def test_no_package_is_named_with_its_version(table: Table):
    versions = {version for chosen in table.sets.values() for version in chosen.pins.values()}
    assert [version for version in versions if re.search(rf"(?<![\w.]){re.escape(version)}(?![\w.])", TEXT)] == []


NEWER = [r"^\s*#\s*syntax\s*=", r"<<-?\s*['\"]?\w", r"--link\b", r"--checksum=", r"\benv=", r"--parents\b"]


@pytest.mark.parametrize("newer", NEWER)
def test_nothing_in_it_needs_a_front_end_from_a_registry(newer):
    assert not re.search(newer, TEXT, re.MULTILINE | re.IGNORECASE)


def test_no_instruction_fetches_by_itself():
    assert [keyword for keyword, _ in instructions() if keyword == "ADD"] == []
    assert not re.search(r"\b(curl|wget)\b|\bpip install\b", TEXT)


@pytest.mark.parametrize("stage", [stage for stage in stages() if copies(stage)])
def test_what_a_stage_copies_is_there_and_reaches_the_engine(stage):
    tracked = subprocess.run(["git", "-C", str(ROOT), "ls-files"], capture_output=True, text=True, check=False)
    if tracked.returncode:
        pytest.skip("this checkout is no clone, so what is in it cannot be told from what lies in it")
    for sources, _ in copies(stage):
        for source in sources:
            files = tracked.stdout.splitlines()
            found = [path for path in files if fnmatch(path, source) or path.startswith(f"{source}/")]
            assert found, source
            assert [path for path in found if ignored(path)] == []


def test_caches_data_and_secrets_do_not_reach_the_engine():
    outside = [".git/config", ".venv/bin/python", "outputs/image/build.log", "data/nuscenes", ".env", "ca.pem"]
    made = ["racdino/__pycache__/x.cpython-310.pyc", "racdino/_C.cpython-310-x86_64-linux-gnu.so", "racdino/_C.json"]
    assert [path for path in (*outside, *made) if not ignored(path)] == []
    assert not ignored("docker/compile")
    assert not ignored("racdino/csrc/ms_deform_attn.cpp")


def test_every_script_that_a_stage_runs_is_mounted_and_executable():
    ran = set()
    for name, (_, given) in stages().items():
        for keyword, rest in given:
            if keyword != "RUN":
                continue
            mounts = dict(re.findall(r"from=([\w-]+),target=(/mnt/[\w-]+)(?= )", rest))
            for folder, file in re.findall(r"(?<![=\w])(/mnt/[\w-]+)/([\w-]+)(?=\s|$)", rest):
                (source,) = [stage for stage, target in mounts.items() if target == folder]
                if source == "seed":
                    continue  # uv, of the seed
                paths = {Path(path).name: path for sources, _ in copies(source) for path in sources}
                assert file in paths, f"{name} runs {folder}/{file}"
                assert os.access(ROOT / paths[file], os.X_OK), paths[file]
                ran.add(paths[file])
    assert {"docker/install-debs", "docker/install-packages", "docker/compile", "docker/finish"} <= ran


@pytest.mark.parametrize(
    ("stage", "module"),
    [("setup", "scripts.setup.image"), ("setup", "racdino.environment.cubins"), ("sbom-code", "scripts.image.sbom")],
)
def test_what_a_stage_mounts_is_all_that_its_program_imports(tmp_path, stage, module):
    assemble(stage, tmp_path)
    command = [sys.executable, "-S", "-B", "-c", f"import {module}; print({module}.__file__)"]
    answer = subprocess.run(command, cwd=tmp_path, env={}, capture_output=True, text=True, check=False)
    assert answer.returncode == 0, answer.stderr
    assert answer.stdout.startswith(str(tmp_path))


def test_every_argument_of_a_build_is_declared():
    declared = {rest.partition("=")[0] for keyword, rest in instructions() if keyword == "ARG"}
    given = {"BASE", "SEED", "BUNDLE", "VARIANT", "TOOLCHAIN", "ARCH_LIST", "FLASH_ATTN", "FRESH", "SOURCE_DATE_EPOCH"}
    assert given | {"IMAGE_FACTS", "FLASH_ATTN_SHA256", "MAX_JOBS", *ADDRESSES} == declared


def test_the_image_runs_as_a_user_under_an_init_that_passes_signals_on():
    last = {keyword: rest for keyword, rest in stages()["runtime"][1] if keyword in ("USER", "ENTRYPOINT", "WORKDIR")}
    assert last["USER"] == "1000:1000"
    assert last["ENTRYPOINT"].startswith('["/usr/bin/tini", "-g",')
    assert last["WORKDIR"] == "/workspace"
    assert [rest for keyword, rest in stages()["dev"][1] if keyword == "USER"][-1] == "1000:1000"
