"""Build the image: `make image`, `invoke build`. Says what it builds from, how far it is and how long stages took."""

from __future__ import annotations

import argparse
import json
import os
import shlex
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import urlsplit

import racdino
from racdino.environment.locks import LockError, digest, read_header
from scripts.image.base import Base, ensure_base, epoch
from scripts.image.bundle import Bundle, open_bundle
from scripts.image.engine import Engine, find_engine
from scripts.image.errors import ImageError
from scripts.image.progress import follow
from scripts.image.seed import FETCHED, Seed, ensure_seed
from scripts.locking.table import TableError, read_table
from scripts.setup.errors import SetupError
from scripts.setup.machine import VARIANTS, choose_variant
from scripts.setup.progress import clock
from scripts.uv import UvError

ROOT = Path(__file__).resolve().parents[2]
# Addresses a user may exchange for a mirror's, by the variable and build argument of the same name.
ADDRESSES = ("DEBIAN_ARCHIVE", "PACKAGE_INDEX", "UV_RELEASE", "UV_PYTHON_INSTALL_MIRROR", "FLASH_ATTN_URL")
_PROXIES = ("HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "http_proxy", "https_proxy", "no_proxy")


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit status 0: the image is there. 1: the build failed. 2: something it needs is missing."""
    parser = argparse.ArgumentParser(prog="invoke build", description=__doc__)
    parser.add_argument("--variant", choices=VARIANTS, help="cu118 where there is an NVIDIA GPU, cpu elsewhere")
    parser.add_argument("--target", choices=("runtime", "dev"), default="runtime", help="dev: with compilers and tools")
    parser.add_argument(
        "--arch-list", default="", help="cpu only: GPU targets to compile our operator for all the same, e.g. 9.0"
    )
    parser.add_argument(
        "--flash-attn", choices=("none", "source", "url"), default="none", help="source: compiles for hours"
    )
    parser.add_argument("--bundle", type=Path, metavar="DIR", help="build from this bundle, with the network off")
    parser.add_argument("--tag", help="name of the image (default: racdino:torch20-VARIANT and racdino:latest)")
    parser.add_argument("--engine", choices=("docker", "podman"))
    parser.add_argument("--dry", action="store_true", help="print the engine's command and make nothing")
    options = parser.parse_args(arguments)
    try:
        variant = choose_variant(options.variant or os.environ.get("VARIANT"), None)
        build(
            variant=variant,
            tag=options.tag,
            target=options.target,
            arch_list=options.arch_list,
            flash_attn=options.flash_attn,
            bundle=options.bundle,
            engine=find_engine(options.engine),
            dry=options.dry,
        )
    except (ImageError, SetupError, UvError, TableError, LockError) as error:
        print(f"image: {error}", file=sys.stderr)
        return 2
    except subprocess.CalledProcessError as error:
        print(f"image: the build failed; its last lines are above, all of them in {error.output}.", file=sys.stderr)
        return 1
    return 0


def build(
    *,
    root: Path = ROOT,
    variant: str,
    tag: str | None = None,
    target: str = "runtime",
    arch_list: str = "",
    flash_attn: str = "none",
    bundle: Path | None = None,
    fresh: bool = False,
    engine: Engine | None = None,
    dry: bool = False,
) -> str:
    """Build one image from the checkout ``root`` and return its name.

    Args:
        fresh: use no cache of layers and compile every wheel anew.
        dry: print the engine's command, as it is where base and Python can be fetched, and make nothing.
    Raises:
        ImageError: an engine, an input or an argument is missing or unusable.
        CalledProcessError: the build failed; ``output`` is the path of its log.
    """
    _refuse(variant, flash_attn)
    secrets = _secrets()
    engine = engine or find_engine()
    engine.require_builder()
    stated = " ".join(arch_list.replace(";", " ").split()) or _targets(root, variant)
    print(f"engine: {engine.name} {engine.version}; variant: {variant}; operator for GPUs: {stated or 'none'}")
    table = read_table(root / "environment" / "pins.toml").image
    offline = open_bundle(engine, bundle, variant) if bundle and not dry else None
    if offline:
        base, seed = offline.base, offline.seed
    elif dry:
        base, seed = Base(table["base"], "pulled"), Seed(FETCHED, "uv", table["image-python"])
    else:
        base = ensure_base(engine, table["base"])
        seed = ensure_seed(engine, os.environ.get("UV_RELEASE"), table["image-python"])
    facts = image_facts(root, variant, stated, base, seed)
    names = [tag] if tag else image_names(variant, target)
    command = [
        str(engine.path),
        *("build", "--file", "docker/Dockerfile", "--target", target),
        *(word for name in names for word in ("--tag", name)),
        *(("--progress", "plain") if engine.name == "docker" else ()),
        *(("--no-cache",) if fresh else ()),
        *(("--network", "none") if offline else ()),
        *_arguments(root, variant, stated, flash_attn, fresh, base, seed, offline),
        "--build-arg",
        f"IMAGE_FACTS={json.dumps(facts, sort_keys=True)}",
        *_labels(facts, base),
        *secrets,
        ".",
    ]
    if dry:
        print(shlex.join(command))
        return names[0]
    started = time.monotonic()
    log = ROOT / "outputs" / "image" / f"build-{names[0].replace(':', '-')}.log"
    follow(command, root, engine.environment(), log)
    print(f"image: {names[0]} is ready, after {clock(time.monotonic() - started)}; the log is {log}")
    return names[0]


def image_names(variant: str, target: str) -> list[str]:
    """What an image is called; the runtime image built last is the latest."""
    return [f"racdino:torch20-{variant}-dev"] if target == "dev" else [f"racdino:torch20-{variant}", "racdino:latest"]


def image_facts(root: Path, variant: str, arch_list: str, base: Base, seed: Seed) -> dict[str, object]:
    """What `racdino info` says of the image, none of it dependent on when and where it is built."""
    return {
        "variant": variant,
        "version": racdino.__version__,
        "revision": _git(root, "describe", "--always", "--abbrev=40", "--dirty", "--exclude", "*") or "unknown",
        "created": _git(root, "show", "--no-patch", "--format=%cI", "HEAD") or "unknown",
        "python": {"version": seed.version, "origin": seed.origin},
        "base": {"name": base.name, "origin": base.origin},
        "arch-list": arch_list.split(),
        "locks": {path.name: digest(path) for path in sorted((root / "environment").glob("*.lock"))},
    }


def _targets(root: Path, variant: str) -> str:
    return read_header(root / "environment" / "build.lock")["arch-list"] if variant == "cu118" else ""


def _refuse(variant: str, flash_attn: str) -> None:
    """Raise for what cannot end well, before anything is fetched or made."""
    for name in ADDRESSES:
        address = urlsplit(os.environ.get(name, ""))
        if address.username or address.password:
            raise ImageError(
                f"{name} holds a password or a user's name, which the image's history would keep: take it out of the "
                "address, and give it to a proxy or mirror on this machine instead."
            )
    if flash_attn != "none" and variant == "cpu":
        raise ImageError("flash-attn needs an NVIDIA GPU: build it with --variant cu118, or leave --flash-attn away.")
    if flash_attn == "url" and not (os.environ.get("FLASH_ATTN_URL") and os.environ.get("FLASH_ATTN_SHA256")):
        raise ImageError("--flash-attn url takes the wheel at FLASH_ATTN_URL, held to FLASH_ATTN_SHA256: set both.")


def _arguments(
    root: Path, variant: str, targets: str, flash_attn: str, fresh: bool, base: Base, seed: Seed, offline: Bundle | None
) -> list[str]:
    values = {
        "BASE": base.name,
        "SEED": seed.name,
        "VARIANT": variant,
        "TOOLCHAIN": "nvcc" if targets else "gcc",
        "ARCH_LIST": targets.replace(" ", ";"),
        "FLASH_ATTN": flash_attn,
        "SOURCE_DATE_EPOCH": str(epoch(root / "environment" / "apt.lock")),
    }
    if offline:
        values["BUNDLE"] = offline.name
    if fresh:
        values["FRESH"] = "1"
    for name in (*ADDRESSES, "FLASH_ATTN_SHA256", "MAX_JOBS", *_PROXIES):
        if os.environ.get(name):
            values[name] = os.environ[name]
    return [word for name, value in values.items() for word in ("--build-arg", f"{name}={value}")]


def _labels(facts: dict[str, object], base: Base) -> list[str]:
    locks, python = facts["locks"], facts["python"]
    assert isinstance(locks, dict)
    assert isinstance(python, dict)
    labels = {
        "org.opencontainers.image.title": "RacDINO",
        "org.opencontainers.image.description": "Training environment for radar-camera 3D detection with DINOv2",
        "org.opencontainers.image.licenses": "Apache-2.0",
        "org.opencontainers.image.version": facts["version"],
        "org.opencontainers.image.revision": facts["revision"],
        "org.opencontainers.image.created": facts["created"],
        "org.opencontainers.image.base.name": base.name,
        "org.racdino.variant": facts["variant"],
        "org.racdino.python.origin": python["origin"],
        "org.racdino.base.origin": base.origin,
        **{f"org.racdino.lock.{name}": value for name, value in locks.items()},
    }
    return [word for name, value in labels.items() for word in ("--label", f"{name}={value}")]


def _secrets() -> list[str]:
    """The CA bundle of a company's proxy, where the user's variables name one: for the build, never in the image."""
    bundle = os.environ.get("SSL_CERT_FILE") or os.environ.get("CURL_CA_BUNDLE")
    if not bundle:
        return []
    if not Path(bundle).is_file():
        raise ImageError(f"SSL_CERT_FILE={bundle} does not exist: unset it, or set it to your proxy's CA bundle.")
    return ["--secret", f"id=ca,src={Path(bundle).resolve()}"]


def _git(root: Path, *arguments: str) -> str:
    """What git says of the checkout; nothing where it is no clone."""
    try:
        answer = subprocess.run(["git", "-C", str(root), *arguments], capture_output=True, text=True, check=False)
    except FileNotFoundError:
        return ""
    return answer.stdout.strip()


if __name__ == "__main__":
    raise SystemExit(main())
