"""`invoke lock --check` names each way in which a lock can stop following from the table, in one sentence."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest

from racdino.environment.locks import LOCKS
from scripts.locking.check import drift
from scripts.locking.generate import generate, write
from scripts.locking.main import main
from scripts.locking.resolve import RegistryError
from scripts.locking.table import Table, TableError, read_table


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    return Path(shutil.copytree(LOCKS, tmp_path / "environment"))


def edit(path: Path, pattern: str, replacement: str) -> None:
    text = path.read_text()
    changed = re.sub(pattern, replacement, text, count=1, flags=re.M)
    assert changed != text
    path.write_text(changed)


def found(folder: Path) -> list[str]:
    sentences = drift(folder, read_table(folder / "pins.toml"))
    assert all(re.fullmatch(r"[^\n]+\.", sentence) for sentence in sentences)
    return sentences


def test_the_locks_follow_from_the_table(copy: Path):
    assert found(copy) == []


def test_a_pin_that_moved_in_the_table_alone(copy: Path):
    edit(copy / "pins.toml", r'^version = "9\.5\.0"', 'version = "9.4.0"')
    sentences = found(copy)
    assert "cpu.lock has pillow 9.5.0, pins.toml says 9.4.0; run `invoke lock`." in sentences
    assert "cu118.lock was generated from another pins.toml; run `invoke lock`." in sentences
    assert (
        "flash-attn.lock was generated from another pins.toml; run `invoke lock`." in sentences
    )  # it stands on native
    assert not [sentence for sentence in sentences if sentence.startswith("build.lock")]


def test_a_new_reason_moves_no_lock(copy: Path):
    edit(copy / "pins.toml", r'^relaxed = "nothing known"', 'relaxed = "nothing at all"')
    assert found(copy) == []


def test_a_new_arch_list_is_a_new_build_lock(copy: Path):
    edit(copy / "pins.toml", r'^arch-list = "7\.0 ', 'arch-list = "')
    assert "build.lock was generated from another pins.toml; run `invoke lock`." in found(copy)


def test_a_hash_that_is_missing(copy: Path):
    edit(copy / "dev.lock", r"^(ruff==\S+) \\\n(?:    --hash=\S+(?: \\)?\n)+", r"\1\n")
    assert any(re.search(r"dev\.lock:\d+: ruff has no hash", sentence) for sentence in found(copy))


def test_a_hash_that_was_edited_by_hand(copy: Path):
    edit(copy / "cpu.lock", r"--hash=sha256:[0-9a-f]{4}", "--hash=sha256:0000")
    assert "cpu.lock was edited by hand; change pins.toml and run `invoke lock`." in found(copy)


def test_a_lock_that_is_gone(copy: Path):
    (copy / "dev.lock").unlink()
    assert any("dev.lock does not exist" in sentence for sentence in found(copy))


def test_variants_that_differ_in_another_package(copy: Path):
    edit(copy / "cu118.lock", r"^pillow==9\.5\.0", "pillow==9.4.0")
    (sentence,) = [line for line in found(copy) if "and cpu.lock differ in pillow" in line]
    assert "which is no accelerator package (9.4.0 and 9.5.0); run `invoke lock`." in sentence


def test_an_accelerator_package_from_another_file(copy: Path):
    edit(
        copy / "cu118.lock",
        r"(torch-2\.0\.0%2Bcu118.*?sha256:)[0-9a-f]{4}|torch-2\.0\.0%2Bcu118",
        "torch-2.0.1%2Bcu118",
    )
    assert "cu118.lock does not take torch from the file in pins.toml; run `invoke lock`." in found(copy)


def test_an_excluded_package_in_a_lock(copy: Path):
    edit(copy / "cpu.lock", r"\Z", f"opencv-python==4.8.1.78 --hash=sha256:{'a' * 64}\n")
    assert "cpu.lock has opencv-python, which pins.toml excludes; run `invoke lock`." in found(copy)


def test_a_row_without_its_reason_is_refused(copy: Path):
    edit(copy / "pins.toml", r"^(\[native\.numpy\]\nversion = .*\n)why = .*\n", r"\1")
    with pytest.raises(TableError, match=r"\[native.numpy\] lacks why"):
        read_table(copy / "pins.toml")


def test_a_table_that_is_not_toml_is_one_sentence(copy: Path, monkeypatch: pytest.MonkeyPatch, capsys):
    (copy / "pins.toml").write_text("[native\n")
    monkeypatch.setattr("scripts.locking.main.LOCKS", copy)
    assert main(["--check"]) == 1
    assert re.fullmatch(r"error: .*pins\.toml is not valid TOML: .*\.\n", capsys.readouterr().err)


@pytest.mark.slow
def test_resolving_again_gives_the_same_locks_and_writes_nothing(uv: Path, table: Table, copy: Path):
    try:
        texts = generate(uv, table, copy)
    except RegistryError as error:
        pytest.skip(f"no package registry answers: {str(error).splitlines()[-1]}")
    assert write(copy, texts) == []


@pytest.mark.slow
def test_resolving_without_the_old_locks_gives_the_same(uv: Path, table: Table, tmp_path: Path):
    try:
        texts = generate(uv, table, tmp_path)
    except RegistryError as error:
        pytest.skip(f"no package registry answers: {str(error).splitlines()[-1]}")
    assert texts == {lock: (LOCKS / lock).read_text() for lock in texts}
