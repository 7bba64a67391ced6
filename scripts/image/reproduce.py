"""Build the image twice from two folders and compare the two layer by layer: ``invoke image.reproduce``.

Each build starts from a clone of the last commit, in a folder of another name, with another umask and other file times,
and uses no cache of any kind. Both images are exported, normalised and compared; exit status 1 where a difference is
left that ``compare.EXPLAINED`` does not explain.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from scripts.image.archive import Archive
from scripts.image.compare import LayerDifference, compare
from scripts.image.engine import Engine, find_engine
from scripts.image.errors import ImageError
from scripts.image.normalise import normalise

ROOT = Path(__file__).resolve().parents[2]
_SHOWN = 100


class Copy(NamedTuple):
    """How one copy of the checkout differs from the other: folder, umask, and mtime in seconds since 1970."""

    folder: str
    umask: int
    mtime: int


# Both times are far from any build's own, one before every commit and one after.
COPIES = (Copy("first", 0o002, 1_000_000_000), Copy("second/in a folder of another depth", 0o077, 4_000_000_000))


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit status 0: the two builds are the same but for what is explained."""
    parser = argparse.ArgumentParser(prog="invoke image.reproduce", description=__doc__)
    parser.add_argument("--variant", default="cpu", choices=("cpu", "cu118"))
    parser.add_argument(
        "--arch-list", default="", help="GPU targets, as in environment/pins.toml; default: all of them"
    )
    options = parser.parse_args(arguments)
    try:
        with tempfile.TemporaryDirectory(prefix="racdino-reproduce-") as folder:
            differences = reproduce(Path(folder), options.variant, options.arch_list, find_engine())
    except ImageError as error:
        print(f"image.reproduce: {error}", file=sys.stderr)
        return 2
    except subprocess.CalledProcessError as error:
        print(f"image.reproduce: a build failed; its last lines are above, its log is {error.output}.", file=sys.stderr)
        return 2
    print(verdict(differences))
    return int(any(difference.reason is None for difference in differences))


def reproduce(work: Path, variant: str, arch_list: str, engine: Engine) -> list[LayerDifference]:
    """Build both copies in ``work`` and return what differs.

    Raises:
        ImageError: a copy, a build or an export failed.
    """
    from scripts.image.build import build

    if _git(ROOT, "status", "--porcelain", "--untracked-files=no"):
        print("image.reproduce: the last commit is built; what is not committed is left out.")
    epoch = int(_git(ROOT, "show", "--no-patch", "--format=%ct", "HEAD"))
    copies = [copy_checkout(ROOT, work, copy) for copy in COPIES]  # both now: HEAD may move during the first build
    exports = []
    for number, folder in enumerate(copies, start=1):
        tag = f"racdino:reproduce-{number}"
        build(root=folder, tag=tag, fresh=True, variant=variant, arch_list=arch_list)
        exported, normal = work / f"exported-{number}.tar", work / f"normal-{number}.tar"
        engine.run(["save", "--output", str(exported), tag])
        engine.run(["image", "rm", tag])
        print(f"build {number}: image {normalise(exported, normal, epoch)} once normalised", flush=True)
        exported.unlink()
        exports.append(normal)
    first, second = exports
    print_layers(first, second)
    return compare(first, second)


def copy_checkout(root: Path, work: Path, copy: Copy) -> Path:
    """A clone of the last commit of ``root``, made as ``copy`` says."""
    target = work / copy.folder / "racdino"
    target.parent.mkdir(parents=True)
    _git(root, "clone", "--quiet", "--local", str(root), str(target), umask=copy.umask)
    for path in sorted(target.rglob("*")):
        if path.relative_to(target).parts[0] != ".git":
            os.utime(path, (copy.mtime, copy.mtime), follow_symlinks=False)
    return target


def print_layers(first: Path, second: Path) -> None:
    """Print the digests of both images, layer beside layer, with the instruction that made each."""
    with Archive(first) as a, Archive(second) as b:
        made = a.instructions()
        for index, pair in enumerate(zip(a.config["rootfs"]["diff_ids"], b.config["rootfs"]["diff_ids"], strict=False)):
            same = "same     " if pair[0] == pair[1] else "different"
            digests = " ".join(digest.removeprefix("sha256:")[:16] for digest in pair)
            print(f"layer {index + 1:2}  {same}  {digests}  {' '.join(made[index].split())[:80]}")


def verdict(differences: Sequence[LayerDifference]) -> str:
    """The differences, a hundred at most, unexplained ones first, and one sentence."""
    ordered = sorted(differences, key=lambda difference: difference.reason is not None)
    lines = [str(difference) for difference in ordered[:_SHOWN]]
    if len(ordered) > _SHOWN:
        lines.append(f"... and {len(ordered) - _SHOWN} more")
    unexplained = sum(difference.reason is None for difference in differences)
    if not differences:
        lines.append("The two builds are the same, byte for byte, once normalised.")
    else:
        lines.append(f"The two builds differ in {len(differences)} places, {unexplained} of them unexplained.")
    return "\n".join(lines)


def _git(root: Path, *arguments: str, umask: int = -1) -> str:
    command = ["git", "-C", str(root), *arguments]
    answer = subprocess.run(command, capture_output=True, text=True, check=False, umask=umask)
    if answer.returncode:
        raise ImageError(f"`git {arguments[0]}` failed in {root}: {answer.stderr.strip()}")
    return answer.stdout.strip()


if __name__ == "__main__":
    raise SystemExit(main())
