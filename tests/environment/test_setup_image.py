"""What the image asks of set-up: one wheel at a time, and the proof of an environment without tools of development."""

from __future__ import annotations

import hashlib
import json
import sys
from pathlib import Path

import pytest
from setup_fakes import SITE, FakeTools, install, make_checkout

from racdino.environment.locks import LOCKS
from racdino.environment.manifest import compare
from racdino.environment.state import read_state
from scripts.setup import image
from scripts.setup.machine import Compilers
from scripts.setup.plan import ImagePlan, Plan, why_environment_is_stale

WHEEL = "mmcv_full-1.6.0-cp310-cp310-linux_x86_64.whl"


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A checkout in miniature, and an environment of the image at tmp_path/venv."""
    folder = make_checkout(tmp_path / "checkout")
    build = folder / "environment" / "build.lock"
    build.write_text(f"# gcc-max: 11\n{build.read_text()}")
    monkeypatch.setattr(image, "ROOT", folder)
    monkeypatch.setattr(image, "find_compilers", lambda *_: Compilers("cc", "c++", "c++ 12"))
    monkeypatch.setattr(sys, "prefix", str(tmp_path / "venv"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("VARIANT", "cpu")
    return folder


@pytest.fixture
def labels(root: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What the tools were asked."""
    said: list[str] = []

    def tools(uv: Path, log: Path, keep_open: tuple[int, ...], variables: dict[str, str]) -> FakeTools:
        return FakeTools(Plan(root, "cpu", False), labels=said, keep_open=keep_open, variables=variables)

    monkeypatch.setattr(image, "Tools", tools)
    return said


def make_environment(prefix: Path) -> None:
    for name, version in {"setuptools": "69.5.1", "torch": "2.0.0", "mmcv_full": "1.6.0", "racdino": "0.1"}.items():
        install(prefix, name, version, {f"{name}/__init__.py": ""})


def make_wheels(folder: Path) -> dict[str, str]:
    hashes = {}
    for name in (WHEEL, "racdino-0.1-0.editable-cp310-cp310-linux_x86_64.whl"):
        place = folder / name.partition("-")[0]
        place.mkdir(parents=True)
        (place / name).write_text(name)
        hashes[name.partition("-")[0]] = hashlib.sha256(name.encode()).hexdigest()
    return hashes


@pytest.mark.parametrize("variant", ["cpu", "cu118"])
@pytest.mark.parametrize("flash_attn", [True, False])
def test_the_image_has_the_locks_of_a_checkout_but_for_the_tools_of_development(variant, flash_attn):
    checkout, own = (kind(LOCKS.parent, variant, flash_attn).locks for kind in (Plan, ImagePlan))
    assert own == tuple(lock for lock in checkout if lock != "dev.lock")
    assert len(own) == len(checkout) - 1
    assert own[:2] == ("build.lock", f"{variant}.lock")


def test_an_environment_of_the_image_is_made_where_it_stays(root, tmp_path):
    plan = ImagePlan(root, "cpu", False)
    assert plan.prefix == plan.fresh == tmp_path / "venv"


def test_a_wheel_is_compiled_once_and_then_taken_from_the_cache(root, labels, tmp_path):
    for number in ("first", "second"):
        assert image.main(["wheel", "mmcv-full", str(tmp_path / number)]) == 0
        assert [path.name for path in (tmp_path / number).iterdir()] == [WHEEL]
    assert labels == ["mmcv-full 1.6.0: fetching its source", "mmcv-full 1.6.0: compiling"]


def test_a_finished_environment_is_proven_and_noted(root, tmp_path):
    prefix = tmp_path / "venv"
    make_environment(prefix)
    hashes = make_wheels(tmp_path / "wheels")
    assert image.main(["finish", *map(str, sorted((tmp_path / "wheels").iterdir()))]) == 0
    state = read_state(prefix)
    assert state is not None
    assert state.wheels == {"mmcv-full": hashes["mmcv_full"]}  # our own is no package of a lock
    assert list(state.locks) == ["build.lock", "cpu.lock"]
    assert state.packages["torch"] == "2.0.0"
    manifest = json.loads((prefix / "racdino" / "manifest.json").read_text())
    assert manifest["locks"] == ["build.lock", "cpu.lock"]
    assert compare(prefix, root / "environment") == []
    (prefix / SITE / "torch" / "__init__.py").write_text("altered")
    assert [difference.kind for difference in compare(prefix, root / "environment")] == ["changed"]


def test_flash_attn_is_part_of_the_proof_where_its_wheel_is(root, tmp_path):
    prefix = tmp_path / "venv"
    make_environment(prefix)
    install(prefix, "flash_attn", "2.3.5", {"flash_attn/__init__.py": ""})
    make_wheels(tmp_path / "wheels")
    (tmp_path / "wheels" / "flash_attn").mkdir()
    (tmp_path / "wheels" / "flash_attn" / "flash_attn-2.3.5-cp310-cp310-linux_x86_64.whl").touch()
    lock = f"flash-attn==2.3.5 --hash=sha256:{'f' * 64}\n"
    (root / "environment" / "flash-attn.lock").write_text(lock)
    assert image.main(["finish", *map(str, (tmp_path / "wheels").iterdir())]) == 0
    state = read_state(prefix)
    assert state is not None
    assert state.flash_attn
    assert "flash-attn.lock" in state.locks
    assert compare(prefix, root / "environment") == []


def test_a_file_that_is_not_its_archives_is_one_sentence_and_no_state(root, tmp_path, capsys):
    make_environment(tmp_path / "venv")
    (tmp_path / "venv" / SITE / "torch" / "__init__.py").write_text("altered")
    make_wheels(tmp_path / "wheels")
    assert image.main(["finish", *map(str, (tmp_path / "wheels").iterdir())]) == 1
    (sentence,) = capsys.readouterr().err.splitlines()
    assert sentence.startswith("image: ")
    assert "torch" in sentence
    assert read_state(tmp_path / "venv") is None


def test_a_checkout_in_the_image_does_not_make_its_environment_stale(root, tmp_path):
    make_environment(tmp_path / "venv")
    make_wheels(tmp_path / "wheels")
    image.main(["finish", *map(str, (tmp_path / "wheels").iterdir())])
    (tmp_path / "venv" / "bin").mkdir()
    (tmp_path / "venv" / "bin" / "python").touch()
    assert why_environment_is_stale(ImagePlan(root, "cpu", False), tmp_path / "venv") is None
    (root / "environment" / "dev.lock").write_text(f"ruff==0.2 --hash=sha256:{'d' * 64}\n")
    assert why_environment_is_stale(ImagePlan(root, "cpu", False), tmp_path / "venv") is None
