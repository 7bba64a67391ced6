"""A failed check does not stop the next one, and the last line and the exit status tell."""

from __future__ import annotations

from racdino.verify.errors import VerifyError
from racdino.verify.table import Table


def fail() -> str:
    raise VerifyError("it is wrong; mend it.")


def crash() -> str:
    return {}["gone"]


def test_rows_are_printed_and_counted(capsys):
    table = Table()
    assert table.run("good", lambda: "fine")
    assert not table.run("bad", fail)
    assert not table.run("broken", crash)
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == ["ok", "FAIL", "FAIL"]
    assert lines[1].endswith("it is wrong; mend it.")
    assert lines[2].endswith("KeyError: 'gone'")
    assert "Traceback" in table.rows[2].trace
    assert table.summary().startswith("verify: 2 of 3 checks failed in ")
    assert table.summary().endswith(": bad, broken")


def test_all_passed_is_one_line():
    table = Table()
    table.run("good", lambda: "fine")
    assert table.summary().startswith("verify: all 1 checks passed in ")
