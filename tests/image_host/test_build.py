"""A build states everything it is made from in its arguments, and refuses in one sentence before it does anything."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shlex
import shutil
import subprocess
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import pytest

from racdino.environment.locks import read_header
from scripts.image import build
from scripts.image.base import Base, epoch
from scripts.image.bundle import Bundle
from scripts.image.seed import Seed
from scripts.locking.table import read_table

ROOT = Path(__file__).resolve().parents[2]
LOCKS = ROOT / "environment"
PINNED = read_table(LOCKS / "pins.toml").image["base"]


@pytest.fixture(autouse=True)
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder that has the locks and gets the log; none of the variables that a build reads."""
    shutil.copytree(LOCKS, tmp_path / "checkout" / "environment")
    monkeypatch.setattr(build, "ROOT", tmp_path / "checkout")
    for name in (*build.ADDRESSES, *build._PROXIES, "FLASH_ATTN_SHA256", "MAX_JOBS", "SSL_CERT_FILE", "CURL_CA_BUNDLE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.delenv("VARIANT", raising=False)
    return tmp_path / "checkout"


@pytest.fixture
def found(monkeypatch: pytest.MonkeyPatch) -> None:
    """Base and seed without an engine."""
    monkeypatch.setattr(build, "ensure_base", lambda engine, pinned: Base(pinned, "pulled"))
    monkeypatch.setattr(build, "ensure_seed", lambda engine, release, fetched: Seed("racdino-seed:1", "host", "3.10.1"))


def ran(calls: Callable[[], list[list[str]]]) -> list[list[str]]:
    """The calls that do more than ask whether there is an engine."""
    return [call for call in calls() if call[0] not in ("--version", "version", "info")]


def command(calls: Callable[[], list[list[str]]]) -> list[str]:
    (only,) = [call for call in calls() if call[0] == "build"]
    return only


def values(words: list[str], option: str = "--build-arg") -> dict[str, str]:
    pairs = [value.partition("=") for name, value in pairwise(words) if name == option]
    assert len({name for name, _, _ in pairs}) == len(pairs)
    return {name: value for name, _, value in pairs}


def test_a_build_for_gpus_states_what_it_is_made_from(client, found, root, calls):
    assert build.build(root=root, variant="cu118", engine=client) == "racdino:torch20-cu118"
    words = command(calls)
    facts = values(words)
    del facts["IMAGE_FACTS"]
    targets = read_header(LOCKS / "build.lock")["arch-list"]
    assert facts == {
        "BASE": PINNED,
        "SEED": "racdino-seed:1",
        "VARIANT": "cu118",
        "TOOLCHAIN": "nvcc",
        "ARCH_LIST": targets.replace(" ", ";"),
        "FLASH_ATTN": "none",
        "SOURCE_DATE_EPOCH": str(epoch(LOCKS / "apt.lock")),
    }
    assert words[:5] == ["build", "--file", "docker/Dockerfile", "--target", "runtime"]
    assert [value for name, value in pairwise(words) if name == "--tag"] == ["racdino:torch20-cu118", "racdino:latest"]
    assert not {"--no-cache", "--network", "--secret"} & set(words)
    assert words[-1] == "."


def test_a_build_for_the_cpu_needs_no_nvcc_unless_targets_are_stated(client, found, root, tmp_path, calls):
    build.build(root=root, variant="cpu", engine=client)
    facts = values(command(calls))
    assert (facts["TOOLCHAIN"], facts["ARCH_LIST"]) == ("gcc", "")
    (tmp_path / "said").unlink()
    build.build(root=root, variant="cpu", arch_list="8.0; 9.0", engine=client)
    facts = values(command(calls))
    assert (facts["TOOLCHAIN"], facts["ARCH_LIST"]) == ("nvcc", "8.0;9.0")
    assert json.loads(facts["IMAGE_FACTS"])["arch-list"] == ["8.0", "9.0"]


def test_the_facts_of_the_image_and_its_labels_agree(client, found, root, calls):
    build.build(root=root, variant="cpu", engine=client)
    facts = json.loads(values(command(calls))["IMAGE_FACTS"])
    locks = {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in LOCKS.glob("*.lock")}
    assert facts["locks"] == locks
    assert facts["base"] == {"name": PINNED, "origin": "pulled"}
    assert facts["python"]["origin"] == "host"
    assert facts["revision"] == facts["created"] == "unknown"  # this checkout is no clone
    labels = values(command(calls), "--label")
    assert labels["org.opencontainers.image.base.name"] == PINNED
    assert labels["org.opencontainers.image.version"] == facts["version"]
    assert labels["org.racdino.variant"] == "cpu"
    assert {name: labels[f"org.racdino.lock.{name}"] for name in locks} == locks


def test_a_clone_is_named_by_its_commit_and_dated_by_it(root):
    git = ["git", "-C", str(root), "-c", "user.name=x", "-c", "user.email=x@example.org"]
    subprocess.run([*git, "init", "-q"], check=True)
    subprocess.run([*git, "add", "environment/apt.lock"], check=True)
    when = {**os.environ, "GIT_COMMITTER_DATE": "2026-01-02T03:04:05Z"}
    subprocess.run([*git, "commit", "-qm", "x"], env=when, check=True)
    facts = build.image_facts(root, "cpu", "", Base("x", "pulled"), Seed("x", "uv", "3.10.99"))
    assert re.fullmatch(r"[0-9a-f]{40}", str(facts["revision"]))
    assert facts["created"] == "2026-01-02T03:04:05+00:00"
    assert facts["python"] == {"version": "3.10.99", "origin": "uv"}
    (root / "environment" / "apt.lock").write_text("edited")
    facts = build.image_facts(root, "cpu", "", Base("x", "pulled"), Seed("x", "uv", "3.10.99"))
    assert str(facts["revision"]).endswith("-dirty")


def test_mirrors_and_proxies_of_the_caller_reach_the_build(client, found, root, calls, monkeypatch):
    given = {
        "PACKAGE_INDEX": "https://mirror.example/simple",
        "DEBIAN_ARCHIVE": "http://mirror.example/d",
        "https_proxy": "http://user:secret@proxy.example:3128",  # engines keep these out of the history
        "MAX_JOBS": "2",
    }
    for name, value in given.items():
        monkeypatch.setenv(name, value)
    build.build(root=root, variant="cpu", engine=client)
    assert given.items() <= values(command(calls)).items()
    assert "NO_PROXY" not in values(command(calls))


def test_a_proxys_certificates_are_a_secret_of_the_build(client, found, root, tmp_path, monkeypatch, calls):
    (tmp_path / "ca.pem").touch()
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "ca.pem"))
    build.build(root=root, variant="cpu", engine=client)
    assert values(command(calls), "--secret") == {"id": f"ca,src={tmp_path / 'ca.pem'}"}
    assert "SSL_CERT_FILE" not in values(command(calls))


def test_a_build_from_a_bundle_has_no_network(client, root, tmp_path, monkeypatch, calls):
    held = Bundle("racdino-bundle:1", Base("racdino-base:1", "bootstrapped"), Seed("racdino-seed:2", "host", "3.10.1"))
    monkeypatch.setattr(build, "open_bundle", lambda engine, folder, variant: held)
    build.build(root=root, variant="cpu", bundle=tmp_path, engine=client)
    words = command(calls)
    facts = values(words)
    assert ("--network", "none") in pairwise(words)
    assert (facts["BUNDLE"], facts["BASE"], facts["SEED"]) == ("racdino-bundle:1", "racdino-base:1", "racdino-seed:2")


def test_a_fresh_build_uses_nothing_that_was_kept(client, found, root, calls):
    build.build(root=root, variant="cpu", tag="mine:1", target="dev", fresh=True, engine=client)
    words = command(calls)
    assert "--no-cache" in words
    assert values(words)["FRESH"] == "1"
    assert [value for name, value in pairwise(words) if name == "--tag"] == ["mine:1"]
    assert ("--target", "dev") in pairwise(words)


def test_images_are_named_by_variant_and_only_a_runtime_is_the_latest():
    assert build.image_names("cpu", "runtime") == ["racdino:torch20-cpu", "racdino:latest"]
    assert build.image_names("cu118", "dev") == ["racdino:torch20-cu118-dev"]


@pytest.mark.parametrize("name", build.ADDRESSES)
@pytest.mark.parametrize("who", ["user:secret", "token"])
def test_an_address_with_a_password_or_token_is_refused(client, monkeypatch, calls, capsys, name, who):
    monkeypatch.setenv(name, f"https://{who}@mirror.example/simple")
    assert build.main(["--variant", "cpu"]) == 2
    assert ran(calls) == []
    words = capsys.readouterr().err
    assert words.startswith(f"image: {name} holds a password")
    assert who not in words


@pytest.mark.parametrize(
    ("variables", "arguments", "says"),
    [
        ({}, ["--variant", "cpu", "--flash-attn", "source"], "flash-attn needs an NVIDIA GPU"),
        ({}, ["--variant", "cu118", "--flash-attn", "url"], "FLASH_ATTN_URL, held to FLASH_ATTN_SHA256: set both"),
        ({"SSL_CERT_FILE": "/none/ca.pem"}, ["--variant", "cpu"], "SSL_CERT_FILE=/none/ca.pem does not exist"),
        ({"VARIANT": "cu121"}, [], "VARIANT=cu121 does not exist"),
    ],
)
def test_what_cannot_end_well_is_refused_first(client, monkeypatch, calls, capsys, variables, arguments, says):
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert build.main(arguments) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert says in line
    assert ran(calls) == []


def test_a_build_that_fails_names_its_log(client, found, root, tmp_path, monkeypatch, capsys):
    (tmp_path / "ends").write_text("1")
    monkeypatch.setitem(build.build.__kwdefaults__, "root", root)
    assert build.main(["--variant", "cpu", "--tag", "mine/racdino:1"]) == 1
    log = root / "outputs" / "image" / "build-mine" / "racdino-1.log"
    assert log.read_text() == "#1 [internal] load\n"
    assert str(log) in capsys.readouterr().err


def test_a_dry_build_prints_the_command_and_makes_nothing(client, root, calls, capsys):
    build.build(root=root, variant="cpu", engine=client, dry=True)
    printed = shlex.split(capsys.readouterr().out.splitlines()[-1])
    assert printed[1] == "build"
    assert values(printed)["BASE"] == PINNED
    assert calls() == []
