"""The ``racdino`` command: ``racdino info``, ``verify``, ``train CONFIG``, ``weights fetch dinov2_vitb14``, ..."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import racdino

_OWN_OPTIONS = {  # commands that read their arguments themselves, or hand them on
    "verify": "prove the installation and run the backbone on camera frames",
    "train": "[CONFIG [OPTION ...]]: train, one process per visible GPU; without a config the demo",
    "eval": "CONFIG CHECKPOINT [OPTION ...]: nuScenes metrics, speed and memory of a checkpoint",
    "show": "CONFIG CHECKPOINT [OPTION ...]: draw predictions and truth, as PNG and as one HTML page",
    "data": "prepare | check | synthesize: info files of a nuScenes folder, or a data set anyone can have",
    "doctor": "[PATH]: find and mend what is wrong with this environment and a checkout; explain an error's text",
    "shell": "bash in this environment",
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit status. What a command needs is imported when it runs."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    if arguments and arguments[0] in _OWN_OPTIONS:
        return _run_with_own_options(*arguments)
    options = _parser().parse_args(arguments)
    try:
        return options.run(options)
    except KeyboardInterrupt:
        print("interrupted; run the same command again to continue", file=sys.stderr)
        return 130


def _run_with_own_options(command: str, *arguments: str) -> int:
    if command == "verify":
        from racdino.verify.main import main as verify

        return verify(arguments)
    if command == "data":
        from racdino.data.main import main as data

        return data(arguments)
    if command == "doctor":
        from racdino.doctor.main import main as doctor

        return doctor(arguments)
    if command == "show":
        from racdino.openmmlab.show import main as show

        return show(arguments)
    from racdino import launch

    run = {"train": launch.train, "eval": launch.evaluate, "shell": launch.shell}[command]
    return run(arguments)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="racdino", description=racdino.__doc__)
    parser.add_argument("--version", action="version", version=f"racdino {racdino.__version__}")
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")
    info = commands.add_parser("info", help="what this is: versions, variant, GPU targets, locks")
    info.add_argument("--json", action="store_true", help="as one JSON object, with the image's CycloneDX list")
    info.set_defaults(run=_info)
    for name, text in _OWN_OPTIONS.items():
        commands.add_parser(name, help=text, add_help=False)

    weights = commands.add_parser("weights", help="list and fetch the published weights")
    actions = weights.add_subparsers(title="actions", required=True, metavar="ACTION")
    listing = actions.add_parser("list", help="the published weights and where they are on this machine")
    listing.set_defaults(run=_list_weights)
    fetching = actions.add_parser(
        "fetch",
        help="download one file: resumed after an interruption, checked against its sha256",
        description="Download one file of published weights. Run again after an interruption, it continues.",
    )
    fetching.add_argument("name", help="e.g. dinov2_vitb14; `racdino weights list` shows all")
    fetching.add_argument(
        "--to", type=Path, metavar="DIR", help="folder to put it in (default: $RACDINO_WEIGHTS, else ~/.cache/dinov2)"
    )
    fetching.add_argument("--url", help="a mirror to take it from; the file must still have the published sha256")
    fetching.set_defaults(run=_fetch_weights)
    return parser


def _info(options: argparse.Namespace) -> int:
    from racdino.environment import info

    print(info.as_json() if options.json else info.as_text())
    return 0


def _list_weights(_: argparse.Namespace) -> int:
    from racdino.weights import CATALOGUE, find_or_none, search_folders

    for entry in CATALOGUE.values():
        size = f"{entry.size / 2**20:.0f} MiB" if entry.size else ""
        place = find_or_none(entry) or "not on this machine"
        print(f"{entry.name:18} {entry.file:32} {size:>8}  sha256 {entry.sha256[:16]}...  {place}")
    print(f"searched, in this order: {', '.join(map(str, search_folders()))}")
    return 0


def _fetch_weights(options: argparse.Namespace) -> int:
    from racdino.weights import published, user_folder
    from racdino.weights.fetch import FetchError, fetch

    try:
        path = fetch(published(options.name), options.to or user_folder(), options.url)
    except (ValueError, FetchError) as error:
        print(f"racdino weights fetch: {error}", file=sys.stderr)
        return 1
    print(path)
    return 0
