"""Killed at any step, setup leaves the old environment or the new one, and the next run finishes the job."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from setup_fakes import SITE, Killed, make_builder, make_checkout

from racdino.environment.manifest import compare
from racdino.environment.state import read_state, state_path
from scripts.setup.build import swap
from scripts.setup.plan import checkout_is_stale, why_environment_is_stale

STEPS = [
    "Environment: creating",
    "Build tools: installing",
    "3 packages: fetching and installing",
    "mmcv-full 1.6.0: fetching its source",
    "mmcv-full 1.6.0: compiling",
    "mmcv-full: installing",
    "racdino: compiling and installing the checkout",
]

UPDATE = [step for step in STEPS if not step.startswith("mmcv-full 1.6.0")]  # the wheel is cached by then


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return make_checkout(tmp_path / "checkout")


def make(root: Path, die_at: int = -1) -> list[str]:
    builder, tools = make_builder(root, root.parent / "cache" / "racdino", die_at)
    builder.environment()
    return tools.labels


def finished(root: Path) -> bool:
    builder, _ = make_builder(root, root)
    state = read_state(root / ".venv")
    whole = why_environment_is_stale(builder.plan, root / ".venv") is None and state is not None
    return whole and not checkout_is_stale(builder.plan, state) and not compare(root / ".venv", root / "environment")


def test_a_setup_runs_its_steps_in_order_and_leaves_a_whole_environment(root: Path):
    assert make(root) == STEPS
    assert finished(root)
    assert sorted(path.name for path in root.glob(".venv*")) == [".venv"]


@pytest.mark.parametrize("die_at", range(len(STEPS)), ids=STEPS)
def test_killed_in_a_step_the_next_run_finishes(root: Path, die_at: int):
    with pytest.raises(Killed):
        make(root, die_at)
    assert not (root / ".venv").exists()
    assert read_state(root / ".venv.new") is None
    labels = make(root)
    assert finished(root)
    if die_at > STEPS.index("3 packages: fetching and installing"):
        assert "3 packages: fetching and installing" not in labels
    if die_at > STEPS.index("mmcv-full 1.6.0: compiling"):
        assert "mmcv-full 1.6.0: compiling" not in labels


@pytest.mark.parametrize("die_at", range(len(UPDATE)), ids=UPDATE)
def test_killed_in_an_update_the_old_environment_still_works(root: Path, die_at: int):
    make(root)
    (root / "environment" / "dev.lock").write_text(f"ruff==0.1 --hash=sha256:{'d' * 64}\n")
    with pytest.raises(Killed):
        make(root, die_at)
    assert read_state(root / ".venv") is not None
    assert (root / ".venv" / SITE / "torch" / "__init__.py").read_text() == "name = 'torch'\n"
    make(root)
    assert finished(root)


@pytest.mark.parametrize("survived", [0, 1])
def test_killed_between_the_two_renames_the_next_run_only_swaps(
    root: Path, survived: int, monkeypatch: pytest.MonkeyPatch
):
    make(root)
    (root / "environment" / "dev.lock").write_text(f"ruff==0.1 --hash=sha256:{'d' * 64}\n")
    builder, _ = make_builder(root, root.parent / "cache" / "racdino")
    count = 0

    def rename(source: Path, target: Path) -> None:
        nonlocal count
        if count == survived:
            raise Killed
        count += 1
        source.rename(target)

    with monkeypatch.context() as patch:
        patch.setattr("scripts.setup.build.swap", lambda fresh, prefix: swap(fresh, prefix, rename))
        with pytest.raises(Killed):
            builder.environment()
    assert make(root) == []
    assert finished(root)
    assert sorted(path.name for path in root.glob(".venv*")) == [".venv"]


def test_an_edited_source_compiles_again_and_reinstalls_nothing(root: Path):
    make(root)
    (root / "racdino" / "csrc" / "op.cpp").write_text("int op2;\n")
    assert not finished(root)
    builder, tools = make_builder(root, root)
    state = read_state(root / ".venv")
    assert state is not None
    builder.checkout(state)
    assert tools.labels == ["racdino._C: compiling"]
    assert finished(root)


def test_a_source_that_does_not_compile_leaves_the_environment_as_it_was(root: Path):
    make(root)
    (root / "racdino" / "csrc" / "op.cpp").write_text("int op2\n")
    builder, _ = make_builder(root, root, die_at=0)
    state = read_state(root / ".venv")
    assert state is not None
    with pytest.raises(Killed):
        builder.checkout(state)
    assert read_state(root / ".venv") == state
    assert checkout_is_stale(builder.plan, state)


def test_a_cached_wheel_that_was_altered_is_built_again(root: Path, capsys: pytest.CaptureFixture[str]):
    make(root)
    (wheel,) = (root.parent / "cache").rglob("mmcv_full*.whl")
    wheel.write_bytes(b"altered")
    state_path(root / ".venv").unlink()
    assert "mmcv-full 1.6.0: compiling" in make(root)
    assert "the cached wheel is not what was built" in capsys.readouterr().out
    record = json.loads((wheel.parent / "wheel.json").read_text())
    assert record["built from"]["compilers"]["cxx_version"] == "c++ 12"


def reasons(root: Path) -> str | None:
    builder, _ = make_builder(root, root)
    return why_environment_is_stale(builder.plan, root / ".venv")


def test_what_makes_an_environment_stale_is_said(root: Path):
    assert reasons(root) == "there is no finished environment"
    make(root)
    assert reasons(root) is None
    info = root / ".venv" / SITE / "ruff-0.1.dist-info"
    info.rename(info.with_name("ruff-0.2.dist-info"))
    assert reasons(root) == "ruff is not as installed"
    info.with_name("ruff-0.2.dist-info").rename(info)
    (root / "environment" / "cpu.lock").write_text(f"torch==2.0.1 --hash=sha256:{'b' * 64}\n")
    assert reasons(root) == "cpu.lock changed"
    (root / ".venv" / "bin" / "python").unlink()
    assert str(reasons(root)).startswith("it was made with Python 3.")


def test_a_half_written_state_is_no_state(root: Path):
    make(root)
    state_path(root / ".venv").write_text('{"variant": "cpu"')
    assert read_state(root / ".venv") is None
    state_path(root / ".venv").write_text('{"variant": "cpu"}')
    assert read_state(root / ".venv") is None
