"""The command line of scripts/lock.py."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from racdino.environment.locks import LOCKS
from scripts.locking.check import drift
from scripts.locking.generate import generate, write
from scripts.locking.resolve import RegistryError, ResolutionError
from scripts.locking.table import TableError, read_table
from scripts.uv import UvError, find_uv


def main(arguments: list[str]) -> int:
    """0 when the locks follow from the table (with --check) or were written (without)."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing; fail when a lock no longer follows")
    check = parser.parse_args(arguments).check
    try:
        return _check(LOCKS) if check else _generate(LOCKS)
    except (TableError, ResolutionError, UvError) as error:
        print(f"error: {error}", file=sys.stderr)
    except RegistryError as error:
        print(f"error: no package registry answers, so nothing was locked: {_last_line(error)}", file=sys.stderr)
    return 1


def _generate(folder: Path) -> int:
    table = read_table(folder / "pins.toml")
    changed = write(folder, generate(find_uv(), table, folder))
    print(f"Wrote {', '.join(changed)}." if changed else "Every lock already follows from pins.toml.")
    return 0


def _check(folder: Path) -> int:
    table = read_table(folder / "pins.toml")
    found = drift(folder, table)
    if not found:
        try:
            texts = generate(find_uv(), table, folder)
        except RegistryError as error:
            print(f"Not resolved again, since no package registry answers: {_last_line(error)}")
        else:
            found = [
                f"{lock} is not what resolving pins.toml again gives; run `invoke lock`."
                for lock, text in texts.items()
                if (folder / lock).read_text(encoding="utf-8") != text
            ]
    for sentence in found:
        print(f"error: {sentence}", file=sys.stderr)
    if not found:
        print("The locks follow from pins.toml.")
    return 1 if found else 0


def _last_line(error: Exception) -> str:
    return str(error).splitlines()[-1].strip()
