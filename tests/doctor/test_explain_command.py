"""`racdino doctor explain` as a command: what it reads and prints, its exit status, and its page in docs/doctor."""

from __future__ import annotations

import io
import json
import sys
from pathlib import Path

import pytest

from racdino.doctor.explain.main import LIMIT, main, tail
from racdino.doctor.explain.page import page
from racdino.doctor.explain.texts import ALL

ROOT = Path(__file__).resolve().parents[2]
MESSAGE = "ModuleNotFoundError: No module named 'MultiScaleDeformableAttention'"


class _Input(io.TextIOWrapper):
    """Standard input with these bytes; a terminal if said."""

    def __init__(self, raw: bytes, terminal: bool = False) -> None:
        super().__init__(io.BytesIO(raw), encoding="utf-8")
        self.terminal = terminal

    def isatty(self) -> bool:
        return self.terminal


@pytest.fixture
def stdin(monkeypatch):
    return lambda raw, terminal=False: monkeypatch.setattr(sys, "stdin", _Input(raw, terminal))


def test_known_text_on_standard_input_is_status_0_with_cause_remedy_and_line(stdin, capsys):
    stdin(f"Traceback (most recent call last):\n{MESSAGE}\n".encode())
    assert main([]) == 0
    printed = capsys.readouterr().out
    assert printed.startswith("RX421  the op is not installed in this Python")
    assert f"line 2: {MESSAGE}" in printed
    assert "-> `racdino doctor --fix`" in printed


@pytest.mark.parametrize("arguments", [["--", MESSAGE], [MESSAGE], ["--", *MESSAGE.split()]])
def test_message_may_be_given_as_arguments(arguments, capsys):
    assert main(arguments) == 0
    assert "RX421" in capsys.readouterr().out


def test_the_doctor_hands_the_command_on(capsys):
    from racdino.doctor.main import main as doctor

    assert doctor(["explain", "--", MESSAGE]) == 0
    assert "RX421" in capsys.readouterr().out


def test_unknown_text_is_status_1_and_says_what_to_send(stdin, capsys):
    stdin(b"ZeroDivisionError: division by zero\n")
    assert main([]) == 1
    printed = capsys.readouterr().out
    assert "Not known" in printed
    assert "racdino doctor --json" in printed


def test_empty_input_is_not_known(stdin):
    stdin(b"")
    assert main([]) == 1


def test_a_terminal_without_input_is_told_how(stdin, capsys):
    stdin(b"", terminal=True)
    assert main([]) == 2
    assert "racdino doctor explain < traceback.txt" in capsys.readouterr().err


def test_closed_standard_input_is_told_how(monkeypatch, capsys):
    monkeypatch.setattr(sys, "stdin", None)
    assert main([]) == 2
    assert "racdino doctor explain < traceback.txt" in capsys.readouterr().err


def test_a_file_given_without_its_arrow_is_told_so(tmp_path, capsys):
    path = tmp_path / "traceback.txt"
    path.write_text(MESSAGE)
    assert main([str(path)]) == 2
    assert "put `<` before its name" in capsys.readouterr().err


def test_an_unknown_option_is_misuse():
    with pytest.raises(SystemExit) as stop:
        main(["--verbose"])
    assert stop.value.code == 2


def test_bytes_that_are_no_text_do_not_matter(stdin, capsys):
    stdin(b"\xff\xfe\x00\x9f" + MESSAGE.encode() + b"\x80\n\xc3")
    assert main([]) == 0
    assert "RX421" in capsys.readouterr().out


def test_json_holds_every_problem(stdin, capsys):
    stdin(f"UserWarning: xFormers is not available (Block)\n{MESSAGE}\n".encode())
    assert main(["--json"]) == 0
    first, second = json.loads(capsys.readouterr().out)["known"]
    assert (first["key"], first["role"], first["line"]) == ("RX421", "cause", 2)
    assert (second["key"], second["role"]) == ("RX505", "note")
    assert set(first) == {"key", "role", "line", "seen", "cause", "remedy", "check", "page", "source"}


def test_json_of_nothing_known_is_an_empty_list(stdin, capsys):
    stdin(b"all is well")
    assert main(["--json"]) == 1
    assert json.loads(capsys.readouterr().out) == {"known": []}


def test_of_a_longer_text_the_end_is_read_and_that_is_said(stdin, capsys):
    stdin(b"No module named 'flash_attn'\n" + b"." * 79 + b"\n" * LIMIT + MESSAGE.encode())
    assert main([]) == 0
    captured = capsys.readouterr()
    assert "RX421" in captured.out
    assert "RX509" not in captured.out
    assert "only the last 4 MiB were read" in captured.err


@pytest.mark.parametrize("size", [0, 1, LIMIT, LIMIT + 1, 3 * LIMIT + 7])
def test_tail_is_the_end_of_the_stream(size):
    raw = (b"0123456789abcdef" * (size // 16 + 1))[:size]
    assert tail(io.BytesIO(raw)) == (raw[-LIMIT:], size > LIMIT)


def test_every_check_that_is_named_exists():
    from racdino.doctor.registry import CHECKS

    named = {known.doctor for known in ALL if known.doctor}
    assert named
    assert named <= set(CHECKS)


def test_the_check_is_named_with_the_command_that_runs_it(capsys):
    from racdino.doctor.registry import CHECKS

    for known in ALL:
        if known.doctor:
            main(["--", f"{known.within} {known.texts[0]}"])
            wanted = f"--only {known.doctor}{' PATH' if CHECKS[known.doctor].of_checkout else ''}` checks it"
            assert wanted in capsys.readouterr().out


def test_page_follows_from_the_texts():
    text = (ROOT / "docs" / "doctor" / "explain.md").read_text(encoding="utf-8")
    assert text == page(), "run `python -m racdino.doctor.explain.page docs/doctor/explain.md`"


def test_page_has_a_row_for_every_problem_with_equally_many_cells():
    rows = [line for line in page().splitlines() if line.startswith("| RX")]
    assert [row.split()[1] for row in rows] == [known.key for known in ALL]
    assert {row.replace("\\|", "").count("|") for row in rows} == {7}
