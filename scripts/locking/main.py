"""The command line of scripts/lock.py."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from racdino.environment.apt import parse_apt_lock
from racdino.environment.locks import LOCKS, LockError
from scripts.locking import apt
from scripts.locking.check import drift
from scripts.locking.generate import generate, write
from scripts.locking.resolve import RegistryError, ResolutionError
from scripts.locking.table import TableError, read_table
from scripts.uv import UvError, find_uv

FETCHER = Path(__file__).resolve().parents[2] / "docker" / "fetch-debs"


def main(arguments: list[str]) -> int:
    """0 when the locks follow from the table (with --check) or were written (without)."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing; fail when a lock no longer follows")
    parser.add_argument("--apt", action="store_true", help="apt.lock instead, the image's Debian packages")
    options = parser.parse_args(arguments)
    try:
        if options.apt:
            return _check_apt(LOCKS) if options.check else _generate_apt(LOCKS)
        return _check(LOCKS) if options.check else _generate(LOCKS)
    except (TableError, ResolutionError, UvError, LockError) as error:
        print(f"error: {error}", file=sys.stderr)
    except RegistryError as error:
        print(f"error: no package registry answers, so nothing was locked: {_last_line(error)}", file=sys.stderr)
    return 1


def _generate(folder: Path) -> int:
    table = read_table(folder / "pins.toml")
    changed = write(folder, generate(find_uv(), table, folder))
    print(f"Wrote {', '.join(changed)}." if changed else "Every lock already follows from pins.toml.")
    return 0


def _generate_apt(folder: Path) -> int:
    """Lock the image's Debian packages at what the archive has today, and show every one that moved."""
    table = read_table(folder / "pins.toml").apt
    path = folder / "apt.lock"
    old = parse_apt_lock(path) if path.is_file() else {}
    new = apt.resolve(table, FETCHER)
    text = apt.render(table, new, path)
    lines = apt.difference(old, new)
    for line in lines:
        print(line)
    if path.is_file() and path.read_text(encoding="utf-8") == text:
        print("apt.lock already is what the archive has.")
        return 0
    temporary = path.with_suffix(".lock.new")
    temporary.write_text(text, encoding="utf-8")
    temporary.replace(path)
    print(
        f"Wrote apt.lock: {len(new)} packages, {len(lines)} differences; build and test the image before you commit it."
    )
    return 0


def _check_apt(folder: Path) -> int:
    found = apt.drift(folder / "apt.lock", read_table(folder / "pins.toml").apt)
    for sentence in found:
        print(f"error: {sentence}", file=sys.stderr)
    if not found:
        print("apt.lock follows from pins.toml.")
    return 1 if found else 0


def _check(folder: Path) -> int:
    table = read_table(folder / "pins.toml")
    found = drift(folder, table) + apt.drift(folder / "apt.lock", table.apt)
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
