"""Behind ``racdino doctor explain``: standard library only, Python 3.8, no connection."""

from __future__ import annotations

import argparse
import io
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import BinaryIO

from racdino.doctor.explain.search import Match, find
from racdino.doctor.explain.texts import ALL

LIMIT = 4 << 20  # bytes; of more the end is read, where errors stand
_USAGE = "give the error's text: `racdino doctor explain < traceback.txt`, or `racdino doctor explain -- MESSAGE`."
_NOT_KNOWN = """Not known. If RacDINO should know it, open an issue of the project with the whole text, from the first
line that looks wrong, and with what `racdino doctor --json` and `racdino info --json` print."""


def main(arguments: Sequence[str]) -> int:
    """Print what is known about the text: 0 something is, 1 nothing is, 2 there was no text to look at."""
    parser = argparse.ArgumentParser(
        prog="racdino doctor explain",
        description="Find the known problems behind an error's text, the deepest cause first; offline.",
        epilog="Exit status: 0 known, 1 not known, 2 no text. docs/doctor/explain.md lists what is known.",
    )
    parser.add_argument("--json", action="store_true", help="as one JSON object")
    parser.add_argument("message", nargs="*", metavar="MESSAGE", help="the error's text; without it standard input")
    options = parser.parse_args(arguments)
    text = _text(options.message)
    if text is None:
        return 2
    matches = find(text, ALL)
    print(
        json.dumps({"known": [_as_json(match) for match in matches]}, indent=1) if options.json else _as_text(matches)
    )
    return 0 if matches else 1


def _text(message: list[str]) -> str | None:
    if len(message) == 1 and len(message[0]) < 256 and Path(message[0]).is_file():
        print(f"racdino doctor explain: {message[0]} is a file; put `<` before its name.", file=sys.stderr)
        return None
    if message:
        return " ".join(message)
    if sys.stdin is None or sys.stdin.isatty():  # None: it was closed, `<&-`
        print(f"racdino doctor explain: {_USAGE}", file=sys.stderr)
        return None
    raw, cut = tail(sys.stdin.buffer)
    if cut:
        print(f"racdino doctor explain: only the last {LIMIT >> 20} MiB were read.", file=sys.stderr)
    return raw.decode("utf-8", "replace")


def tail(stream: BinaryIO) -> tuple[bytes, bool]:
    """The last ``LIMIT`` bytes of a stream, and whether there were more. Never holds more than twice as many."""
    kept, cut = b"", False
    while chunk := stream.read(LIMIT):
        kept += chunk
        cut = cut or len(kept) > LIMIT
        kept = kept[-LIMIT:]
    return kept, cut


def _as_text(matches: list[Match]) -> str:
    if not matches:
        return _NOT_KNOWN
    out = io.StringIO()
    for match in matches:
        print(f"{match.known.key}  {match.cause}.", file=out)
        print(f"       line {match.line}: {match.seen}", file=out)
        print(f"       -> {match.remedy}.", file=out)
        if match.known.doctor:
            print(f"       `{_command(match.known.doctor)}` checks it: {_page(match)}", file=out)
    return out.getvalue().rstrip("\n")


def _as_json(match: Match) -> dict[str, object]:
    return {
        "key": match.known.key,
        "role": match.known.role.name.lower(),
        "line": match.line,
        "seen": match.seen,
        "cause": match.cause,
        "remedy": match.remedy,
        "check": match.known.doctor or None,
        "page": _page(match) if match.known.doctor else None,
        "source": match.known.source,
    }


def _command(code: str) -> str:
    path = " PATH" if code[2] in "678" else ""  # the groups that look at a checkout
    return f"racdino doctor --only {code}{path}"


def _page(match: Match) -> str:
    return f"docs/doctor/{match.known.doctor}.md"
