"""docs/doctor/explain.md, made from the known texts: ``python -m racdino.doctor.explain.page FILE`` writes it."""

from __future__ import annotations

import sys
from pathlib import Path

from racdino.doctor.explain.known import Known
from racdino.doctor.explain.texts import ALL, THEMES

_HEAD = """<!-- Generated from racdino/doctor/explain/texts by `invoke doctor.pages`; edit those. -->
# What `racdino doctor explain` knows

```bash
racdino doctor explain < traceback.txt
racdino doctor explain -- "ModuleNotFoundError: No module named 'MultiScaleDeformableAttention'"
python train.py ... 2>&1 | tee run.log; racdino doctor explain < run.log
```

It finds the known problems in the text, offline, and names the deepest cause first: what stopped the program before
what followed from it, and warnings last. The exit status is 0 if something is known, 1 if nothing is, 2 if there is no
text. `…` stands for anything.
"""


def page() -> str:
    """The page: one table for each theme."""
    parts = [_HEAD, f"{len(ALL)} problems are known.\n"]
    for title, theme in THEMES:
        parts.append(f"## {title}\n\n| | you see | it means | do | check | from |\n|---|---|---|---|---|---|")
        parts.extend(_row(known) for known in theme)
        parts.append("")
    return "\n".join(parts)


def _row(known: Known) -> str:
    seen = " or ".join(_code(text) for text in known.texts[:2]) + (" ..." if len(known.texts) > 2 else "")
    if known.within:
        seen += f", with {_code(known.within)} in the traceback"
    check = f"[{known.doctor}]({known.doctor}.md)" if known.doctor else ""
    cells = (known.key, seen, _plain(known.cause), _plain(known.remedy), check, _plain(known.source))
    return f"| {' | '.join(cells)} |"


def _code(text: str) -> str:
    fence = "``" if "`" in text else "`"
    padding = " " if "`" in text else ""
    return f"{fence}{padding}{text.strip().replace('|', chr(92) + '|')}{padding}{fence}"


def _plain(sentence: str) -> str:
    """A cell's sentence; outside of code, which it keeps as it is, underscores and stars would be markup."""
    pieces = sentence.replace("{0}", "…").replace("|", "\\|").split("`")
    pieces[::2] = [piece.replace("_", "\\_").replace("*", "\\*").replace("<", "&lt;") for piece in pieces[::2]]
    return "`".join(pieces)


if __name__ == "__main__":
    Path(sys.argv[1]).write_text(page(), encoding="utf-8")
