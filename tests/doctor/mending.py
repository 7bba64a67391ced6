"""What the tests of mending share: a checkout with one wrong import, and checkups that propose mends for it."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from racdino.doctor.finding import Finding, Severity
from racdino.doctor.mend.plan import Mend, ReplaceStatement, Run

ROOT = Path(__file__).resolve().parents[2]
INIT = b"# \xe9\x80\x82\xe9\x85\x8d\r\nfrom dino_v2_adapter import __all__  # names\r\n"
CODE = "from .dino_v2_adapter import DinoAdapter"
MENDED = INIT.replace(b"from dino_v2_adapter import __all__", CODE.encode())


@pytest.fixture
def root(tmp_path: Path, prefix: Path) -> Path:
    """A checkout with one wrong import; what lies beside it must never change."""
    root = tmp_path / "checkout"
    (root / "nets").mkdir(parents=True)
    (root / "nets/__init__.py").write_bytes(INIT)
    (root / "nets/__init__.py").chmod(0o640)
    return root


@pytest.fixture
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
