"""``--fix`` shows, asks, mends what it can, says what is left, and has nothing to do the second time."""

from __future__ import annotations

import os
import sys

import pytest
from mending import CODE, MENDED, ROOT, problem, replace, rounds, shell, tree

from racdino.doctor.errors import DoctorError
from racdino.doctor.finding import Severity
from racdino.doctor.mend import main
from racdino.doctor.mend.plan import CreateFile, RemoveStatement, ReplaceStatement
from racdino.doctor.mend.proposal import LIBCST


def test_a_second_run_has_nothing_to_mend_and_changes_nothing(root, tmp_path, capfd):
    main.fix(root, replace(root), yes=True)
    before = tree(tmp_path)
    capfd.readouterr()
    assert main.fix(root, replace(root), yes=True) == 0
    assert capfd.readouterr().out == "nothing to mend.\n"
    assert tree(tmp_path) == before


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


def test_an_edit_that_changes_nothing_is_none(root, tmp_path, capfd):
    before = tree(tmp_path)
    mend = ReplaceStatement("nets/__init__.py", 2, "from dino_v2_adapter import __all__")
    assert main.fix(root, lambda: [problem(mend)], yes=True) == 1
    assert "not mended: nets/__init__.py: the edit changes nothing" in capfd.readouterr().out
    assert tree(tmp_path) == before
