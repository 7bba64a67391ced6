"""apt.lock is read by line, follows from the table, and changes only where a package does."""

from __future__ import annotations

import dataclasses
import re
import shutil
from pathlib import Path

import pytest

from racdino.environment.apt import APT_LOCK, Deb, parse_apt_lock
from racdino.environment.locks import LOCKS, LockError, read_header
from scripts.locking import apt
from scripts.locking.main import main
from scripts.locking.table import BELOW, Table, TableError, read_table

HASH = "0123456789abcdef" * 4
LESS = Deb(("base", "dev"), "less", "590-2.1", "amd64", HASH, 131680, "debian", "pool/l/less/less_590-2.1_amd64.deb")
TINI = dataclasses.replace(LESS, sets=("runtime",), name="tini", version="0.19.0-1+b3", pool_path="pool/t/tini.deb")


def write(path: Path, *debs: Deb, **header: str) -> Path:
    lines = [*(f"# {key}: {value}" for key, value in header.items()), *(deb.line() for deb in debs)]
    path.write_text("".join(f"{line}\n" for line in lines))
    return path


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    return Path(shutil.copytree(LOCKS, tmp_path / "environment"))


def edit(path: Path, pattern: str, replacement: str) -> None:
    text = path.read_text()
    changed = re.sub(pattern, replacement, text, count=1, flags=re.M)
    assert changed != text
    path.write_text(changed)


def drift(folder: Path) -> list[str]:
    return apt.drift(folder / "apt.lock", read_table(folder / "pins.toml").apt)


def test_what_is_written_is_what_is_read(tmp_path):
    path = write(tmp_path / "apt.lock", LESS, TINI, table="x")
    assert parse_apt_lock(path) == {"less": LESS, "tini": TINI}
    assert LESS.file == "less_590-2.1_amd64.deb"


def test_a_package_counts_for_each_of_its_sets_and_no_other(tmp_path):
    path = write(tmp_path / "apt.lock", LESS, TINI)
    assert list(parse_apt_lock(path, {"base"})) == ["less"]
    assert list(parse_apt_lock(path, {"dev", "runtime"})) == ["less", "tini"]
    assert list(parse_apt_lock(path, {"run"})) == []


@pytest.mark.parametrize(
    "line",
    [
        "",
        "base less 590-2.1 amd64",
        f"base less 590-2.1 amd64 {HASH} many debian pool/l/less.deb",
        f"base less 590-2.1 amd64 {HASH[1:]} 131680 debian pool/l/less.deb",
        f"base less  590-2.1 amd64 {HASH} 131680 debian pool/l/less.deb",
    ],
    ids=["empty", "too short", "no size", "half a hash", "two spaces"],
)
def test_a_line_that_is_no_package_is_refused_by_its_number(tmp_path, line):
    path = write(tmp_path / "apt.lock", LESS, table="x")
    path.write_text(f"{path.read_text()}{line}\n")
    with pytest.raises(LockError, match=rf"^{re.escape(str(path))}:3 is not `SETS NAME .*\.$"):
        parse_apt_lock(path)


def test_a_missing_lock_says_how_it_is_made(tmp_path):
    with pytest.raises(LockError, match="`invoke lock --apt` makes it from"):
        parse_apt_lock(tmp_path / "apt.lock")


def test_the_lock_follows_from_the_table(copy):
    assert drift(copy) == []


def test_the_lock_serves_every_set_from_the_two_archives_of_its_release(table: Table):
    debs = parse_apt_lock()
    assert {name for deb in debs.values() for name in deb.sets} == set(BELOW)
    assert {deb.archive for deb in debs.values()} <= {"debian", "debian-security"}
    assert {deb.arch for deb in debs.values()} <= {"amd64", "all"}
    assert len({deb.file for deb in debs.values()}) == len(debs)  # they lie in one folder
    assert all(deb.pool_path.startswith("pool/") and deb.file.endswith(f"_{deb.arch}.deb") for deb in debs.values())
    assert read_header(APT_LOCK)["release"] == table.apt.release
    assert list(debs) == sorted(debs)


def test_the_compilers_are_in_their_own_sets_alone():
    compiler = re.compile(r"(g\+\+|gcc|cpp|nvidia)(-(?!\d+-base$)|$)")  # gcc-12-base holds a licence and no program
    assert [name for name in parse_apt_lock(sets={"base", "runtime"}) if compiler.match(name)] == []
    assert any(compiler.match(name) for name in parse_apt_lock(sets={"gcc"}))
    assert parse_apt_lock()["nvidia-cuda-toolkit"].sets == ("nvcc",)


def test_a_package_that_the_table_names_and_the_lock_lacks(copy):
    edit(copy / "apt.lock", r"^runtime tini .*\n", "")
    assert drift(copy) == ["apt.lock lacks tini, which pins.toml sets for runtime; run `invoke lock --apt`."]


def test_a_package_that_the_table_names_anew(copy):
    edit(copy / "pins.toml", r"^tini = ", 'nano = "edits"\ntini = ')
    assert drift(copy) == [
        "apt.lock was generated from another pins.toml; run `invoke lock --apt`.",
        "apt.lock lacks nano, which pins.toml sets for runtime; run `invoke lock --apt`.",
    ]


def test_another_release_is_another_lock_and_another_reason_is_not(copy):
    edit(copy / "pins.toml", r'^tini = ".*"', 'tini = "another reason"')
    assert drift(copy) == []
    edit(copy / "pins.toml", r'^release = "bookworm"', 'release = "trixie"')
    assert drift(copy) == ["apt.lock was generated from another pins.toml; run `invoke lock --apt`."]


def test_a_lock_that_is_gone_is_one_sentence_and_a_failure(copy, monkeypatch, capsys):
    (copy / "apt.lock").unlink()
    monkeypatch.setattr("scripts.locking.main.LOCKS", copy)
    assert main(["--check", "--apt"]) == 1
    assert re.fullmatch(r"error: .*apt\.lock does not exist; .*\.\n", capsys.readouterr().err)


@pytest.mark.parametrize(
    ("pattern", "replacement", "says"),
    [
        (
            r"^\[apt\.dev\]",
            "[apt.devel]",
            r"\[apt\] has devel, which is no set of the image \(base, runtime, gcc, nvcc, dev\)",
        ),
        (r"^release = \"bookworm\"", 'release = "bookworm"\nsuite = "x"', r"\[apt\] has suite, which is no set"),
        (r"^tini = .*", 'tini = ""', r"\[apt\.runtime\] does not say why tini is there"),
        (r"^tini = .*", 'tini = " "', r"\[apt\.runtime\] does not say why tini is there"),
        (r"^tini = .*", "tini = true", r"\[apt\.runtime\] does not say why tini is there"),
        (r"^\[apt\.dev\]\n(?:.+\n)+", "", "lacks the key 'dev'"),
    ],
)
def test_a_set_that_does_not_exist_or_a_package_without_its_reason_is_refused(copy, pattern, replacement, says):
    edit(copy / "pins.toml", pattern, replacement)
    with pytest.raises(TableError, match=says):
        read_table(copy / "pins.toml")


def test_the_tools_have_the_versions_of_the_sets_they_are_from(table: Table):
    versions = {name: version for part in ("build", "native", "dev") for name, version in table.sets[part].pins.items()}
    assert table.sets["tools"].pins
    assert table.sets["tools"].pins.items() <= versions.items()


def test_a_difference_is_one_line_for_each_package_that_came_went_or_moved():
    old = {"less": LESS, "tini": TINI, "gone": LESS, "same": LESS}
    new = {
        "less": dataclasses.replace(LESS, version="590-2.2"),
        "tini": dataclasses.replace(TINI, sets=("base",)),
        "same": LESS,
        "new": TINI,
    }
    assert apt.difference(old, new) == [
        "- gone 590-2.1",
        "  less 590-2.1 -> 590-2.2",
        "+ new 0.19.0-1+b3",
        "  tini 0.19.0-1+b3: another file, or for other stages",
    ]


def test_the_date_for_the_dated_archive_moves_only_when_a_package_does(tmp_path, table: Table):
    path = write(tmp_path / "apt.lock", LESS, TINI, snapshot="20200101T000000Z")
    text = apt.render(table.apt, {"tini": TINI, "less": LESS}, path)
    assert "# snapshot: 20200101T000000Z\n" in text
    path.write_text(text)
    assert list(parse_apt_lock(path)) == ["less", "tini"]
    assert read_header(path)["table"] == apt.digest(table.apt)
    moved = apt.render(table.apt, {"tini": TINI}, path)
    (date,) = re.findall(r"^# snapshot: (\d{8})T000000Z$", moved, flags=re.M)
    assert date > "20200101"
    assert apt.render(table.apt, {"less": LESS}, tmp_path / "none").count("# snapshot: ") == 1
