"""Behind ``racdino doctor`` and ``python -m racdino.doctor``: standard library only, so that it runs without torch."""

from __future__ import annotations

import argparse
import io
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from racdino.doctor import report
from racdino.doctor.check import Check
from racdino.doctor.checkout.subject import Checkout
from racdino.doctor.environment.subject import Environment
from racdino.doctor.errors import DoctorError
from racdino.doctor.finding import Finding, Severity
from racdino.doctor.selection import select

DESCRIPTION = """Find what is wrong with this environment and, with PATH, with a checkout there, and say what mends it.
Nothing of the checkout is executed, and no connection is made. Exit status: 0 all in order (what is optional may be
missing), 1 something is wrong, 2 the doctor could not do what it was asked."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the checks, or explain, mend or undo; return the exit status."""
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # a diff may hold what an ASCII terminal does not have
    try:
        if arguments[:1] == ["explain"]:
            from racdino.doctor.explain.main import main as explain

            return explain(arguments[1:])
        return _run(_parser().parse_args(arguments))
    except DoctorError as error:
        print(f"racdino doctor: {report.printable(str(error))}", file=sys.stderr)
        return 2
    except BrokenPipeError:  # the reader, `head` say, has seen enough
        sys.stderr.close()
        return 1
    except KeyboardInterrupt:
        print("racdino doctor: interrupted; nothing is half-written.", file=sys.stderr)
        return 130


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="racdino doctor",
        description=DESCRIPTION,
        epilog="`racdino doctor explain < traceback.txt` finds the known problem behind an error's text.",
    )
    parser.add_argument("path", nargs="?", type=Path, metavar="PATH", help="a checkout: models/, configs/, train.py")
    parser.add_argument("--json", action="store_true", help="as one JSON object")
    parser.add_argument("--only", action="append", default=[], metavar="WHAT", help="codes or groups: RD601,configs")
    parser.add_argument("--skip", action="append", default=[], metavar="WHAT", help="the same, left out")
    parser.add_argument(
        "--run-imports", action="store_true", help="also import the checkout's code, in a process apart"
    )
    action = parser.add_mutually_exclusive_group()
    action.add_argument("--fix", action="store_true", help="mend what can be mended safely: shows the diff and asks")
    action.add_argument("--undo", action="store_true", help="take back what the last --fix did")
    parser.add_argument("--yes", action="store_true", help="with --fix: do not ask")
    return parser


def _run(options: argparse.Namespace) -> int:
    root = _checkout(options.path)
    checks = select(options.only, options.skip)
    if options.undo:
        from racdino.doctor.mend.main import undo

        return undo(root)
    if options.fix:
        from racdino.doctor.mend.main import fix

        return fix(root, lambda: _problems(checks, root, options.run_imports), options.yes)
    examined = examine(checks, root, options.run_imports)
    if options.json:
        return report.print_json(examined, root, sys.prefix)
    return report.print_text(examined)


def _checkout(path: Path | None) -> Path | None:
    if path is None:
        return None
    if not path.is_dir():
        raise DoctorError(f"{path} is not a folder; name the checkout's, the one with models/ and configs/.")
    return path.resolve()


def _problems(checks: Sequence[Check], root: Path | None, run_imports: bool) -> list[Finding]:
    found = (finding for _, findings in examine(checks, root, run_imports) for finding in findings)
    return [finding for finding in found if finding.severity is not Severity.OK]


def examine(
    checks: Sequence[Check], root: Path | None, run_imports: bool = False
) -> Iterator[tuple[Check, list[Finding]]]:
    """Each check with what it found, as it is found. Checks of a checkout run where there is one."""
    environment = Environment()
    checkout = Checkout(root) if root else None
    for check in checks:
        if (check.of_checkout and checkout is None) or (check.live and not run_imports):
            continue
        yield check, _findings(check, checkout if check.of_checkout else environment)


def _findings(check: Check, subject: Environment | Checkout | None) -> list[Finding]:
    try:
        return list(check.findings(subject))
    except Exception as error:  # one check's own mistake must not hide what the others find
        cause = f"this check itself failed: {type(error).__name__}: {error}"
        return [Finding(check.code, Severity.ERROR, cause, f"report it, and go on with --skip {check.code}")]
