"""Run the tests of the plain-torch parts on the newest torch there is: `invoke test --newest`.

Ops, backbones, weights and the detector promise torch 2.0 to the newest. This takes a copy of the tracked files (the
compiled `racdino._C` beside the sources belongs to `.venv`), an environment with whatever the registry calls newest
today, and runs their tests there. Nothing is locked on purpose, so the versions are printed.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from scripts.uv import UvError, find_uv  # noqa: E402

PACKAGES = (
    "torch",
    "numpy",
    "timm",
    "safetensors",
    "tqdm",
    "pytest",
    "setuptools",
    "wheel",
    "ninja",
    "torchvision",
    "scipy",
    "opencv-python-headless",
)
TESTS = ("tests/ops", "tests/backbones", "tests/weights", "tests/detector")


def main() -> int:
    """0 when the tests pass on the newest torch."""
    work = ROOT / "outputs" / "newest"
    checkout, environment = work / "checkout", work / "venv"
    python = environment / "bin" / "python"
    try:
        uv = find_uv()
    except UvError as error:
        print(f"newest: {error}", file=sys.stderr)
        return 1
    shutil.rmtree(work, ignore_errors=True)
    copy_tracked_files(checkout)
    # torch's newest releases ask for a newer Python than the pinned stack can have.
    commands: tuple[tuple[object, ...], ...] = (
        (uv, "venv", "--no-project", "--python", ">=3.11,<3.14", environment),
        (uv, "pip", "install", "--python", python, *PACKAGES),
        (python, "setup.py", "build_ext", "--inplace"),
        (
            python,
            "-c",
            "import sys, torch; print(f'newest: torch {torch.__version__}, Python {sys.version.split()[0]}')",
        ),
        (python, "-m", "pytest", *TESTS),
    )
    for command in commands:
        status = subprocess.run([str(word) for word in command], cwd=checkout, check=False).returncode
        if status:
            print(f"newest: `{' '.join(map(str, command))}` failed with status {status}.", file=sys.stderr)
            return status
    return 0


def copy_tracked_files(target: Path) -> None:
    """The working tree's tracked files, as they are now."""
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, check=True, capture_output=True, text=True).stdout
    for name in filter(None, listed.split("\0")):
        if (ROOT / name).is_file():
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, target / name)


if __name__ == "__main__":
    raise SystemExit(main())
