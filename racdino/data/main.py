"""The ``racdino data`` command: prepare, check, synthesize."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path

from racdino.data.info import SPLITS
from racdino.data.problems import Problem, left_out, summary
from racdino.data.tables import TableError
from racdino.data.version import DataError


def main(arguments: Sequence[str]) -> int:
    """Run ``racdino data ARGUMENTS`` and return its exit status; see ``racdino data --help``."""
    arguments = list(arguments)
    if arguments[:1] == ["synthesize"]:
        from racdino.synthetic.main import main as synthesize

        return synthesize(arguments[1:])
    options = _parser().parse_args(arguments)
    try:
        return options.run(options)
    except (DataError, TableError) as error:
        print(f"racdino data {options.action}: {error}", file=sys.stderr)
        return 2
    except BrokenProcessPool:
        print(
            f"racdino data {options.action}: a worker process was killed, for want of memory perhaps: "
            "run it again, with fewer --workers",
            file=sys.stderr,
        )
        return 1
    except OSError as error:
        print(f"racdino data {options.action}: {error.filename or options.root}: {error.strerror}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("interrupted; run the same command again to continue", file=sys.stderr)
        return 130


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="racdino data", description="Info files, checks and a synthetic data set.")
    actions = parser.add_subparsers(title="actions", required=True, metavar="ACTION", dest="action")
    prepare = actions.add_parser(
        "prepare",
        help="write the info files that training and evaluation read",
        description="Write the info files of one version into the data set's folder. An interrupted run continues. "
        "Exit status: 0 written, 1 something is wrong with the files and nothing was written, 2 no such data set.",
    )
    prepare.add_argument(
        "--on-damage",
        choices=("stop", "skip"),
        default="stop",
        help="where files are absent or damaged or records impossible: write nothing (default), or leave out what "
        "needs them, as for a partial download",
    )
    prepare.set_defaults(run=_prepare)
    check = actions.add_parser(
        "check",
        help="is the data set whole, and do the info files describe it?",
        description="Look at every file that training uses and at the info files; write nothing. "
        "Exit status: 0 all is well, 1 something is absent, damaged or out of date, 2 no such data set.",
    )
    check.set_defaults(run=_check)
    for action in (prepare, check):
        action.add_argument("--root", type=Path, required=True, metavar="DIR", help="e.g. data/nuscenes")
        action.add_argument("--version", choices=tuple(SPLITS), required=True)
        action.add_argument(
            "--workers",
            type=_positive,
            default=len(os.sched_getaffinity(0)),
            metavar="N",
            help="processes (default: one for each processor)",
        )
    actions.add_parser("synthesize", help="render a small data set of the same format", add_help=False)
    return parser


def _positive(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text} is no positive number")
    return int(text)


def _prepare(options: argparse.Namespace) -> int:
    from racdino.data.prepare import prepare

    done = prepare(options.root, options.version, options.workers, options.on_damage == "skip")
    listing = _write_listing(options.root / f"racdino_prepare_{options.version}.txt", done.problems)
    _show(done.problems, listing)
    if done.without_split:
        print(f"{done.without_split} scenes are in none of nuScenes' official splits and were left out")
    if not done.files:
        reason = (
            "stopped, no info file was written: repair the above, or --on-damage skip goes on without it"
            if options.on_damage == "stop"
            else "no key frame is whole, no info file was written"
        )
        print(f"racdino data prepare: {reason}", file=sys.stderr)
        return 1
    if any(done.left_out.values()):
        print(f"left out: {left_out(done.left_out)}")
    for path, count in done.files.items():
        print(f"{path}: {count} key frames")
    return 0


def _check(options: argparse.Namespace) -> int:
    from racdino.data.check import check

    found = check(options.root, options.version, options.workers)
    _show(found.problems, None)
    for finding in found.findings:
        print(finding)
    for path, count in found.samples.items():
        print(f"{path}: {count} key frames are whole")
    return 1 if found.problems or found.findings else 0


def _show(problems: Sequence[Problem], listing: Path | None) -> None:
    for line in summary(problems):
        print(line)
    if listing:
        print(f"all of them: {listing}")


def _write_listing(path: Path, problems: Sequence[Problem]) -> Path | None:
    """Every problem on a line of its own in ``path``; no such file where there is none."""
    if not problems:
        path.unlink(missing_ok=True)
        return None
    temporary = path.with_name(f".{path.name}")
    temporary.write_text("".join(f"{problem.kind}: {problem.text}\n" for problem in problems))
    temporary.replace(path)
    return path
