"""``--fix`` shows, asks, mends and can be taken back exactly; nothing outside the checkout is touched."""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from racdino.doctor.errors import DoctorError
from racdino.doctor.finding import Finding, Severity
from racdino.doctor.mend import files, main
from racdino.doctor.mend.plan import CreateFile, Mend, RemoveStatement, ReplaceStatement, Run
from racdino.doctor.mend.proposal import LIBCST

ROOT = Path(__file__).resolve().parents[2]
INIT = b"# \xe9\x80\x82\xe9\x85\x8d\r\nfrom dino_v2_adapter import __all__  # names\r\n"
CODE = "from .dino_v2_adapter import DinoAdapter"
MENDED = INIT.replace(b"from dino_v2_adapter import __all__", CODE.encode())


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A checkout with one wrong import; what lies beside it must never change."""
    root = tmp_path / "checkout"
    (root / "nets").mkdir(parents=True)
    (root / "nets/__init__.py").write_bytes(INIT)
    (root / "nets/__init__.py").chmod(0o640)
    return root


@pytest.fixture(autouse=True)
def prefix(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An environment of the test's own: backups of commands lie there."""
    prefix = tmp_path / "prefix"
    prefix.mkdir()
    monkeypatch.setattr(sys, "prefix", str(prefix))
    return prefix


def tree(folder: Path) -> dict[str, tuple[int, bytes | str]]:
    """Every path with its mode and content, links as their targets."""
    return {
        path.relative_to(folder).as_posix(): (
            path.lstat().st_mode,
            str(path.readlink()) if path.is_symlink() else path.read_bytes() if path.is_file() else b"",
        )
        for path in sorted(folder.rglob("*"))
    }


def problem(mend: Mend | None, severity: Severity = Severity.ERROR, code: str = "RD601") -> Finding:
    return Finding(code, severity, "it is wrong", "edit it", "nets/__init__.py:2", mend)


def replace(root: Path, file: str = "nets/__init__.py", line: int = 2) -> Callable[[], list[Finding]]:
    """A checkup that proposes to replace the wrong import for as long as it is there."""
    mend = ReplaceStatement(file, line, CODE)
    return lambda: [problem(mend)] if b"import __all__" in (root / file).read_bytes() else []


def shell(script: str, undo: str = "", cwd: str = "") -> Run:
    return Run(("/bin/sh", "-c", script), ("/bin/sh", "-c", undo) if undo else (), cwd)


def rounds(*findings: list[Finding]) -> Callable[[], list[Finding]]:
    """A checkup that finds these, one list after the other, then nothing."""
    left = list(findings)
    return lambda: left.pop(0) if left else []


def test_the_edit_is_shown_made_and_taken_back(root, tmp_path, capfd):
    before = tree(tmp_path)
    assert main.fix(root, replace(root), yes=True) == 0
    shown = capfd.readouterr().out
    assert "-from dino_v2_adapter import __all__  # names\n" in shown
    assert f"+{CODE}  # names\n" in shown
    assert f"`racdino doctor --undo {root}` takes this back" in shown
    assert (root / "nets/__init__.py").read_bytes() == MENDED
    assert (root / "nets/__init__.py").stat().st_mode & 0o777 == 0o640
    assert main.undo(root) == 0
    assert "restored  nets/__init__.py" in capfd.readouterr().out
    assert tree(tmp_path) == before


def test_a_second_run_has_nothing_to_mend_and_changes_nothing(root, tmp_path, capfd):
    main.fix(root, replace(root), yes=True)
    before = tree(tmp_path)
    capfd.readouterr()
    assert main.fix(root, replace(root), yes=True) == 0
    assert capfd.readouterr().out == "nothing to mend.\n"
    assert tree(tmp_path) == before


def test_one_undo_takes_all_rounds_of_a_run_back(root, tmp_path):
    before = tree(tmp_path)
    code = "from .dino_v2_adapter import A"
    examine = rounds(
        [problem(ReplaceStatement("nets/__init__.py", 2, "from dino_v2_adapter import A"))],
        [problem(CreateFile("nets/new.py", "x = 1\ny = 2\n")), problem(ReplaceStatement("nets/__init__.py", 2, code))],
        [problem(RemoveStatement("nets/new.py", 1))],
    )
    assert main.fix(root, examine, yes=True) == 0
    assert (root / "nets/__init__.py").read_text("utf-8").splitlines()[1] == f"{code}  # names"
    assert (root / "nets/new.py").read_bytes() == b"y = 2\n"
    assert len(list((root / ".racdino-doctor").glob("[0-9]*"))) == 1
    main.undo(root)
    assert tree(tmp_path) == before


def test_runs_are_taken_back_one_by_one_the_latest_first(root, tmp_path):
    states = [tree(root / "nets")]
    for code in ("import a", "import b"):
        main.fix(root, rounds([problem(ReplaceStatement("nets/__init__.py", 2, code))]), yes=True)
        states.append(tree(root / "nets"))
    main.undo(root)
    assert tree(root / "nets") == states[1]
    main.undo(root)
    assert tree(root / "nets") == states[0]
    with pytest.raises(DoctorError, match="nothing to undo"):
        main.undo(root)


def test_an_edit_after_the_mending_is_not_overwritten(root):
    examine = rounds([problem(CreateFile("a.py", "x = 1\n")), *replace(root)()])
    main.fix(root, examine, yes=True)
    (root / "nets/__init__.py").write_bytes(MENDED + b"mine = 1\n")
    before = tree(root)
    with pytest.raises(DoctorError, match=r"Nothing was undone: nets/__init__.py changed since"):
        main.undo(root)
    assert tree(root) == before


def test_the_file_of_a_run_that_was_cut_off_before_writing_it_counts_as_restored(root):
    main.fix(root, replace(root), yes=True)
    (root / "nets/__init__.py").write_bytes(INIT)
    assert main.undo(root) == 0
    assert (root / "nets/__init__.py").read_bytes() == INIT


def test_without_a_terminal_and_yes_the_diff_is_shown_and_nothing_done(root, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(sys.stdin, "isatty", lambda: False, raising=False)
    before = tree(tmp_path)
    with pytest.raises(DoctorError, match="--yes"):
        main.fix(root, replace(root), yes=False)
    assert f"+{CODE}" in capsys.readouterr().out
    assert tree(tmp_path) == before


@pytest.mark.parametrize(("answer", "mended"), [("y", True), ("YES ", True), ("", False), ("n", False), (None, False)])
def test_on_a_terminal_it_asks_and_no_is_the_default(root, tmp_path, monkeypatch, answer, mended):
    def respond(prompt: str) -> str:
        assert prompt == "Apply? [y/N] "
        if answer is None:
            raise EOFError
        return answer

    monkeypatch.setattr(sys.stdin, "isatty", lambda: True, raising=False)
    monkeypatch.setattr("builtins.input", respond)
    before = tree(tmp_path)
    assert main.fix(root, replace(root), yes=False) == (0 if mended else 1)
    assert (tree(tmp_path) != before) == mended


def test_what_is_left_is_named_with_its_remedy_and_fails_only_for_errors(root, capfd):
    optional = rounds([problem(None, Severity.OPTIONAL)])
    assert main.fix(root, optional, yes=True) == 0
    assert "-> edit it" in capfd.readouterr().out
    assert main.fix(root, lambda: [problem(None)], yes=True) == 1


def test_a_mend_that_does_not_help_is_tried_once(root, capfd):
    run = shell(f"echo once >> {root}/count")
    assert main.fix(root, lambda: [problem(run)], yes=True) == 1
    assert (root / "count").read_text() == "once\n"
    assert "not mended: its mend was applied and did not help" in capfd.readouterr().out


def test_endless_mending_ends(root, capfd):
    (root / "x.py").write_text("a = 1\n" * 20)
    assert main.fix(root, lambda: [problem(RemoveStatement("x.py", 1))], yes=True) == 1
    assert (root / "x.py").read_text() == "a = 1\n" * (20 - main.ROUNDS)
    assert f"After {main.ROUNDS} rounds" in capfd.readouterr().out


def test_an_edit_that_is_refused_keeps_no_other_back(root, capfd):
    (root / "x.py").write_text("import a; import b\nimport c\n")
    examine = rounds([problem(RemoveStatement("x.py", n)) for n in (1, 2)], [problem(RemoveStatement("x.py", 1))])
    assert main.fix(root, examine, yes=True) == 1
    assert (root / "x.py").read_text() == "import a; import b\n"
    assert "not mended: x.py: 2 simple statements begin on line 1" in capfd.readouterr().out


def test_the_same_mend_of_two_findings_is_done_once(root):
    run = shell(f"echo once >> {root}/count")
    mend = CreateFile("nets/new.py", "")
    main.fix(root, rounds([problem(run), problem(run, code="RD301"), problem(mend), problem(mend)]), yes=True)
    assert (root / "count").read_text() == "once\n"


def test_commands_run_in_order_and_are_undone_in_reverse(root, tmp_path, prefix):
    log = tmp_path / "log"
    finding = [problem(shell(f"echo {n} >> {log}", f"echo back {n} >> {log}", str(tmp_path))) for n in (1, 2)]
    assert main.fix(None, rounds(finding, [problem(shell(f"echo 3 >> {log}"))]), yes=True) == 0
    assert log.read_text().split("\n")[:-1] == ["1", "2", "3"]
    assert main.undo(None) == 0
    assert log.read_text().split("\n")[3:-1] == ["back 2", "back 1"]
    assert tree(prefix / "racdino") == {}


def test_a_failing_command_takes_the_whole_run_back(root, tmp_path, capfd):
    log = tmp_path / "log"
    log.touch()
    before = tree(root)
    first = [*replace(root)(), problem(CreateFile("new.py", "")), problem(shell("true", f"echo back 1 >> {log}"))]
    second = [problem(shell("exit 3", f"echo back 2 >> {log}")), problem(shell(f"echo never >> {log}"))]
    with pytest.raises(DoctorError, match=r"exit 3.* ended with status 3\. Everything of this run was taken back"):
        main.fix(root, rounds(first, second), yes=True)
    assert log.read_text() == "back 2\nback 1\n"
    assert tree(root) == before


def test_a_command_that_nothing_takes_back_is_named(root):
    first = [problem(shell("true")), problem(Run(("/no/such/program",)))]
    with pytest.raises(
        DoctorError, match=r"No such file.* taken back. Not `/bin/sh -c true`, which nothing takes back"
    ):
        main.fix(None, rounds(first), yes=True)


def test_a_failing_undo_command_can_be_repeated(root, tmp_path):
    commands = [problem(shell("true", f"echo 1 >> {tmp_path}/log")), problem(shell("true", f"test -e {tmp_path}/now"))]
    main.fix(root, rounds([*replace(root)(), *commands]), yes=True)
    with pytest.raises(DoctorError, match="failed"):
        main.undo(root)
    assert (root / "nets/__init__.py").read_bytes() == MENDED
    (tmp_path / "now").touch()
    main.undo(root)
    assert (tmp_path / "log").read_text() == "1\n"
    assert (root / "nets/__init__.py").read_bytes() == INIT


def test_an_interrupt_takes_the_run_back(root, tmp_path, monkeypatch):
    before = tree(root)

    def interrupted(command: tuple[str, ...], cwd: str) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("racdino.doctor.mend.apply.execute", interrupted)
    with pytest.raises(KeyboardInterrupt):
        main.fix(root, rounds([*replace(root)(), problem(shell("true"))]), yes=True)
    assert tree(root) == before


def test_a_run_that_was_killed_can_be_taken_back(root, tmp_path, prefix):
    before = tree(root)
    script = f"""
import sys
from pathlib import Path
from racdino.doctor.finding import Finding, Severity
from racdino.doctor.mend import files, main
from racdino.doctor.mend.plan import ReplaceStatement, Run
sys.prefix = {str(prefix)!r}
mends = [ReplaceStatement("nets/__init__.py", 2, {CODE!r}),
         Run(("/bin/sh", "-c", "kill -9 $PPID"), ("touch", "{tmp_path}/undone"))]
main.fix(Path({str(root)!r}), lambda: [Finding("RD601", Severity.ERROR, "", mend=mend) for mend in mends], True)
"""
    killed = subprocess.run([sys.executable, "-c", script], cwd=ROOT, check=False, capture_output=True, text=True)
    assert killed.returncode == -9, killed.stderr
    assert (root / "nets/__init__.py").read_bytes() == MENDED
    main.undo(root)
    assert tree(root) == before
    assert (tmp_path / "undone").exists()


def test_commands_of_a_later_run_are_taken_back_first(root, tmp_path):
    other = tmp_path / "other"
    other.mkdir()
    main.fix(root, rounds([*replace(root)(), problem(shell("true", "true"))]), yes=True)
    main.fix(other, rounds([problem(shell("true", "true"))]), yes=True)
    with pytest.raises(DoctorError, match=f"racdino doctor --undo {other}`"):
        main.undo(root)
    assert main.undo(other) == 0
    assert main.undo(root) == 0
    assert (root / "nets/__init__.py").read_bytes() == INIT


def test_a_run_of_another_environment_is_taken_back_there(root, tmp_path, monkeypatch, prefix):
    main.fix(root, rounds([*replace(root)(), problem(shell("true", "true"))]), yes=True)
    monkeypatch.setattr(sys, "prefix", str(tmp_path / "second"))
    with pytest.raises(DoctorError, match=f"{prefix}/bin/python -m racdino.doctor --undo {root}"):
        main.undo(root)


def test_a_checkout_does_not_say_what_undo_executes(root, tmp_path):
    """A cloned repository may hold a made-up backup."""
    main.fix(root, replace(root), yes=True)
    manifest = root / ".racdino-doctor/1/manifest.json"
    value = json.loads(manifest.read_text())
    value["commands"] = [{"command": ["true"], "undo": ["/bin/sh", "-c", f"touch {tmp_path}/executed"], "cwd": ""}]
    manifest.write_text(json.dumps(value))
    main.undo(root)
    assert not (tmp_path / "executed").exists()


@pytest.mark.parametrize(
    "name", ["../outside.py", "/etc/passwd", ".git/config", "link/x.py", "a\0b", "\ud800", "x" * 5000], ids=ascii
)
def test_undo_restores_nothing_outside_the_checkout(root, tmp_path, name):
    (tmp_path / "outside.py").write_text("")
    (root / "link").symlink_to(tmp_path)
    main.fix(root, replace(root), yes=True)
    manifest = root / ".racdino-doctor/1/manifest.json"
    value = json.loads(manifest.read_text())
    value["files"][name] = value["files"]["nets/__init__.py"]
    manifest.write_text(json.dumps(value))
    before = tree(tmp_path)
    with pytest.raises(DoctorError, match="Nothing was undone"):
        main.undo(root)
    assert tree(tmp_path) == before


@pytest.mark.parametrize(
    "text", ["", "[]", "{}", "\x80", "[" * 100_000, '{"files": {"a": 1}, "commands": []}', '{"files": 1}'], ids=range(7)
)
def test_a_damaged_backup_is_named(root, text):
    main.fix(root, replace(root), yes=True)
    (root / ".racdino-doctor/1/manifest.json").write_text(text, "latin-1")
    with pytest.raises(DoctorError, match=r"backup .*/1 is damaged"):
        main.undo(root)


@pytest.mark.parametrize("environment", ["", "/no/such", "a\0b", "\ud800", 5], ids=ascii)
def test_an_environment_that_is_gone_keeps_no_file_back(root, environment):
    main.fix(root, replace(root), yes=True)
    manifest = root / ".racdino-doctor/1/manifest.json"
    manifest.write_text(json.dumps({**json.loads(manifest.read_text()), "environment": environment}))
    main.undo(root)
    assert (root / "nets/__init__.py").read_bytes() == INIT


def test_an_undo_that_the_disk_refuses_can_be_repeated(root, monkeypatch):
    main.fix(root, rounds([*replace(root)(), problem(CreateFile("new.py", ""))]), yes=True)

    def full(path: Path, content: bytes) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))

    with monkeypatch.context() as patch:
        patch.setattr("racdino.doctor.mend.files.write", full)
        with pytest.raises(DoctorError, match=r"No space left on device; what was not taken back stays in the backup"):
            main.undo(root)
    assert main.undo(root) == 0
    assert (root / "nets/__init__.py").read_bytes() == INIT
    assert not (root / "new.py").exists()


def test_a_disk_that_fills_up_while_mending_leaves_everything_as_it_was(root, monkeypatch):
    before = tree(root)
    write = files.write

    def full(path: Path, content: bytes) -> None:
        if path.name == "new.py":
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))
        write(path, content)

    monkeypatch.setattr("racdino.doctor.mend.files.write", full)
    with pytest.raises(DoctorError, match=r"No space left on device\. Everything of this run was taken back"):
        main.fix(root, rounds([problem(CreateFile("first.py", "")), problem(CreateFile("new.py", ""))]), yes=True)
    assert tree(root) == before


def test_a_damaged_copy_is_named(root):
    main.fix(root, replace(root), yes=True)
    copy = next(path for path in (root / ".racdino-doctor/1").iterdir() if path.name != "manifest.json")
    copy.write_text("other")
    with pytest.raises(DoctorError, match="is damaged"):
        main.undo(root)
    assert (root / "nets/__init__.py").read_bytes() == MENDED


@pytest.mark.parametrize("make", ["file link", "folder link", "dangling link", "absolute", "parent", "fifo", "git"])
def test_nothing_outside_the_checkout_is_edited(root, tmp_path, capfd, make):
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "x.py").write_bytes(INIT)
    (root / ".git").mkdir()
    (root / ".git/x.py").write_bytes(INIT)
    (root / "f.py").symlink_to(outside / "x.py")
    (root / "d").symlink_to(outside)
    (root / "new.py").symlink_to(outside / "new.py")
    os.mkfifo(root / "fifo.py")
    mend: Mend = {
        "file link": ReplaceStatement("f.py", 2, CODE),
        "folder link": ReplaceStatement("d/x.py", 2, CODE),
        "dangling link": CreateFile("new.py", ""),
        "absolute": ReplaceStatement(str(outside / "x.py"), 2, CODE),
        "parent": CreateFile("../outside/new.py", ""),
        "fifo": ReplaceStatement("fifo.py", 2, CODE),
        "git": ReplaceStatement(".git/x.py", 2, CODE),
    }[make]
    before = {path: path.lstat() for path in tmp_path.rglob("*")}
    assert main.fix(root, rounds([problem(mend)]), yes=True) == 1
    assert "not mended: " in capfd.readouterr().out
    assert {path: path.lstat() for path in tmp_path.rglob("*")} == before


def test_a_link_inside_the_checkout_stays_a_link(root):
    (root / "link.py").symlink_to("nets/__init__.py")
    main.fix(root, replace(root, "link.py"), yes=True)
    assert (root / "link.py").is_symlink()
    assert (root / "nets/__init__.py").read_bytes() == MENDED


def test_what_is_hard_linked_from_outside_stays(root, tmp_path):
    (tmp_path / "hard.py").hardlink_to(root / "nets/__init__.py")
    main.fix(root, replace(root), yes=True)
    assert (tmp_path / "hard.py").read_bytes() == INIT
    assert (root / "nets/__init__.py").read_bytes() == MENDED


def test_a_backup_folder_that_is_a_link_is_refused(root, tmp_path):
    (tmp_path / "elsewhere").mkdir()
    (root / ".racdino-doctor").symlink_to(tmp_path / "elsewhere")
    before = tree(tmp_path)
    with pytest.raises(DoctorError, match="symbolic link"):
        main.fix(root, replace(root), yes=True)
    assert tree(tmp_path) == before


def test_a_file_edited_while_the_question_waits_is_left_alone(root, monkeypatch):
    def respond(_: str) -> str:
        (root / "nets/__init__.py").write_bytes(b"mine\n")
        return "y"

    monkeypatch.setattr(sys.stdin, "isatty", lambda: True, raising=False)
    monkeypatch.setattr("builtins.input", respond)
    with pytest.raises(DoctorError, match=r"edited in the meantime\. Everything of this run was taken back"):
        main.fix(root, replace(root), yes=False)
    assert (root / "nets/__init__.py").read_bytes() == b"mine\n"


def test_new_files_do_not_replace_others(root, capfd):
    assert main.fix(root, lambda: [problem(CreateFile("nets/__init__.py", ""))], yes=True) == 1
    assert main.fix(root, lambda: [problem(CreateFile("absent/x.py", ""))], yes=True) == 1
    assert capfd.readouterr().out.count("exists already, or its folder does not") == 2


def test_names_that_are_not_text_are_mended_and_printed(root, capfd):
    name = os.fsdecode(b"nets/\xff\x1b[31m.py")
    (root / name).write_bytes(INIT)
    assert main.fix(root, replace(root, name), yes=True) == 0
    assert (root / name).read_bytes() == MENDED
    assert "\x1b" not in capfd.readouterr().out
    main.undo(root)
    assert (root / name).read_bytes() == INIT


def test_without_libcst_commands_run_and_edits_name_the_command(root, tmp_path, monkeypatch, capfd):
    monkeypatch.delitem(sys.modules, "racdino.doctor.mend.statements", raising=False)
    monkeypatch.setitem(sys.modules, "libcst", None)
    examine = rounds([*replace(root)(), problem(shell(f"touch {tmp_path}/ran"))], replace(root)())
    assert main.fix(root, examine, yes=True) == 1
    assert (tmp_path / "ran").exists()
    hint = f"needs libcst; run `make setup`, or `{sys.executable} -m pip install {LIBCST}`"
    assert hint in capfd.readouterr().out


def test_the_libcst_named_is_the_locks():
    assert f"\n{LIBCST} " in (ROOT / "environment/cpu.lock").read_text()


def test_an_environment_of_another_user_is_left_alone_and_the_checkout_mended(root, prefix, monkeypatch, capfd):
    monkeypatch.setattr(os, "access", lambda path, mode: (str(path), mode) != (str(prefix), os.W_OK))
    assert main.fix(root, rounds([*replace(root)(), problem(shell("true"))], [problem(shell("true"))]), yes=True) == 1
    assert (root / "nets/__init__.py").read_bytes() == MENDED
    assert f"not mended: {prefix} cannot be written by this user" in capfd.readouterr().out
