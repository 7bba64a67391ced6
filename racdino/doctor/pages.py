"""The pages of docs/doctor, made from the checks themselves: ``python -m racdino.doctor.pages FOLDER`` writes them."""

from __future__ import annotations

import sys
from itertools import groupby
from pathlib import Path

from racdino.doctor.check import Check, Group
from racdino.doctor.explain.page import page as explain
from racdino.doctor.registry import CHECKS

_GENERATED = "<!-- Generated from the check by `invoke doctor.pages`; edit the check. -->"


def pages() -> dict[str, str]:
    """Every page by file name: one for each check, and the index."""
    found = {f"{check.code}.md": page(check) for check in CHECKS.values()}
    found["README.md"] = index()
    found["explain.md"] = explain()
    return found


def page(check: Check) -> str:
    """One check's page."""
    mends = (
        "`racdino doctor --fix` mends it where it can." if check.mends else "Mended by hand; `--fix` leaves it alone."
    )
    looks_at = "a checkout, `racdino doctor PATH`" if check.of_checkout else "the environment, `racdino doctor`"
    return f"""{_GENERATED}
# {check.code}: {check.title}

| group | severity | looks at |
|---|---|---|
| {check.group.key} | {check.severity.value} | {looks_at} |

{check.page}

## What to do

{_sentence(check.remedy)}

{mends} Alone: `racdino doctor --only {check.code}`; not at all: `--skip {check.code}`.
"""


def index() -> str:
    """The table of all checks."""
    checks = sorted(CHECKS.values(), key=lambda check: check.code)
    parts = [f"{_GENERATED}\n# The doctor's checks\n"]
    for group, members in groupby(checks, key=lambda check: check.group):
        parts.append(f"## {_capitalised(group)} (`{group.key}`)\n")
        parts.append("| code | in order | else | `--fix` |\n|---|---|---|---|")
        parts.extend(_row(check) for check in members)
        parts.append("")
    return "\n".join(parts)


def _row(check: Check) -> str:
    mends = "yes" if check.mends else ""
    return f"| [{check.code}]({check.code}.md) | {check.title} | {check.severity.value} | {mends} |"


def _capitalised(group: Group) -> str:
    return group.text[0].upper() + group.text[1:]


def _sentence(text: str) -> str:
    return text[0].upper() + text[1:].rstrip(".") + "."


def main(folder: Path) -> int:
    """Write what has changed and delete pages of checks that are gone; other files stay."""
    folder.mkdir(parents=True, exist_ok=True)
    wanted = pages()
    for path in folder.glob("RD*.md"):
        if path.name not in wanted:
            path.unlink()
    for name, text in wanted.items():
        (folder / name).write_text(text, encoding="utf-8")
    print(f"{folder}: {len(wanted)} pages")
    return 0


if __name__ == "__main__":
    raise SystemExit(main(Path(sys.argv[1])))
