"""``--undo`` takes a run back exactly or changes nothing; a run that fails, or is killed, leaves no half."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from pathlib import Path

import pytest
from mending import CODE, INIT, MENDED, ROOT, problem, replace, rounds, shell, tree

from racdino.doctor.errors import DoctorError
from racdino.doctor.mend import files, main
from racdino.doctor.mend.plan import CreateFile, RemoveStatement, ReplaceStatement, Run


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


def test_a_command_that_nothing_takes_back_is_named(prefix):
    first = [problem(shell("true")), problem(Run(("/no/such/program",)))]
    with pytest.raises(
        DoctorError, match=r"No such file.* taken back. Not `/bin/sh -c true`, which nothing takes back"
    ):
        main.fix(None, rounds(first), yes=True)


def test_a_failing_undo_command_can_be_repeated_and_those_done_are_not(root, tmp_path):
    commands = [problem(shell("true", f"test -e {tmp_path}/now")), problem(shell("true", f"echo 1 >> {tmp_path}/log"))]
    main.fix(root, rounds([*replace(root)(), *commands]), yes=True)
    for _ in range(2):
        with pytest.raises(DoctorError, match="failed"):
            main.undo(root)
    assert (root / "nets/__init__.py").read_bytes() == MENDED
    (tmp_path / "now").touch()
    main.undo(root)
    assert (tmp_path / "log").read_text() == "1\n"
    assert (root / "nets/__init__.py").read_bytes() == INIT


def test_what_an_earlier_round_wrote_counts_as_the_doctors(root):
    """A later round that was killed may have noted its edit and not made it."""
    edit = ReplaceStatement("nets/__init__.py", 2, "import a")
    main.fix(root, rounds([problem(edit)]), yes=True)
    first = (root / "nets/__init__.py").read_bytes()
    main.undo(root)
    main.fix(root, rounds([problem(edit)], [problem(RemoveStatement("nets/__init__.py", 2))]), yes=True)
    (root / "nets/__init__.py").write_bytes(first)
    main.undo(root)
    assert (root / "nets/__init__.py").read_bytes() == INIT


@pytest.mark.parametrize("files_first", [True, False])
def test_the_later_of_a_run_of_edits_and_a_run_of_commands_is_taken_back(root, tmp_path, files_first):
    runs = [replace(root)(), [problem(shell("true", f"touch {tmp_path}/undone"))]]
    for findings in runs if files_first else runs[::-1]:
        main.fix(root, rounds(findings), yes=True)
    main.undo(root)
    assert (tmp_path / "undone").exists() == files_first
    assert ((root / "nets/__init__.py").read_bytes() == INIT) != files_first
    main.undo(root)
    assert (tmp_path / "undone").exists()
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
