"""Write the image's bill of materials, CycloneDX 1.5 in JSON, from what is installed.

``python -m scripts.image.sbom --prefix /opt/venv --dpkg /var/lib/dpkg/status --locks environment --epoch N --output F``

Every Python distribution, every Debian package and Python itself is a component with its package URL, its licence where
its metadata states one plainly, and the sha256 of the archives that the locks allow for it. Same installation, same
bytes. Needs the `dev` set (cyclonedx-python-lib), which also checks the result against the standard's schema.
"""

from __future__ import annotations

import argparse
import json
import sys
import uuid
from collections.abc import Iterable, Sequence
from datetime import datetime, timezone
from importlib.metadata import Distribution
from pathlib import Path
from typing import TYPE_CHECKING

from racdino import __version__
from racdino.environment.apt import parse_apt_lock
from racdino.environment.locks import LockError, normalised, parse_lock
from scripts.image.errors import ImageError
from scripts.image.installed import (
    DebianPackage,
    debian_edges,
    debian_packages,
    python_distributions,
    python_edges,
    python_version,
)

if TYPE_CHECKING:
    from cyclonedx.model.bom import Bom
    from cyclonedx.model.component import Component

_OURS = "racdino"
_APT_LOCK = "apt.lock"
_NAMESPACE = uuid.UUID("5a1c3d0e-8f0b-5f53-9c1e-6f2f3b0c7a11")  # any fixed one: serial numbers follow from the content
# Classifiers that name one licence; the others ("BSD License") are kept as the names that they are.
_CLASSIFIERS = {
    "Apache Software License": "Apache-2.0",
    "GNU General Public License v3 or later (GPLv3+)": "GPL-3.0-or-later",
    "Historical Permission Notice and Disclaimer (HPND)": "HPND",
    "MIT License": "MIT",
    "Mozilla Public License 2.0 (MPL 2.0)": "MPL-2.0",
    "Python Software Foundation License": "PSF-2.0",
    "The Unlicense (Unlicense)": "Unlicense",
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Write the file and say what is in it."""
    parser = argparse.ArgumentParser(prog="python -m scripts.image.sbom", description="CycloneDX of what is installed")
    parser.add_argument("--prefix", type=Path, required=True, help="the Python environment")
    parser.add_argument("--dpkg", type=Path, required=True, help="dpkg's list of packages")
    parser.add_argument("--locks", type=Path, required=True, help="the folder of the locks")
    parser.add_argument("--epoch", type=int, required=True, help="time of the revision, seconds since 1970")
    parser.add_argument("--output", type=Path, required=True)
    options = parser.parse_args(arguments)
    try:
        text = make(options.prefix, options.dpkg, options.locks, options.epoch)
    except (ImageError, LockError) as error:
        print(f"sbom: {error}", file=sys.stderr)
        return 1
    options.output.write_text(text, encoding="utf-8")
    components = json.loads(text)["components"]
    locked = sum("externalReferences" in one for one in components)
    print(f"sbom: {len(components)} components, {locked} of them with the sha256 of their locked archives")
    return 0


def make(prefix: Path, dpkg: Path, locks: Path, epoch: int) -> str:
    """The bill of materials as JSON text.

    Raises:
        ImageError: nothing is installed there, or the result breaks the standard's schema.
        LockError: a lock cannot be read.
    """
    from cyclonedx.model.bom import Bom

    found = python_distributions(prefix)
    debs = debian_packages(dpkg)
    hashes, debian_hashes = _python_hashes(locks), _debian_hashes(locks / _APT_LOCK)
    ours = found.pop(_OURS, None)
    project = _component(_OURS, __version__, "pypi", licences=["Apache-2.0"])
    python = _component("python", python_version(prefix), "generic", description="CPython, the interpreter")
    pypi = {name: _python_component(one, hashes) for name, one in found.items()}
    debian = {name: _debian_component(one, debian_hashes) for name, one in debs.items()}

    bom = Bom(components=[python, *pypi.values(), *debian.values()])
    bom.metadata.component = project
    bom.metadata.timestamp = datetime.fromtimestamp(epoch, timezone.utc)
    needs = python_edges([*found.values(), *([ours] if ours else [])])
    _connect(bom, pypi, {name: needs[name] for name in pypi})
    _connect(bom, debian, debian_edges(debs))
    # The image is more than what racdino itself requires: all that nothing else asks for hangs on it too.
    asked = {name for name in pypi for name in needs[name]}
    tops = [one for name, one in pypi.items() if name not in asked or name in needs.get(_OURS, ())]
    bom.register_dependency(project, [python, *tops, *debian.values()])
    return _encode(bom)


def _connect(bom: Bom, components: dict[str, Component], edges: dict[str, set[str]]) -> None:
    for name, component in components.items():
        bom.register_dependency(component, [components[one] for one in edges[name] - {name} if one in components])


def _python_component(found: Distribution, hashes: dict[tuple[str, str], set[str]]) -> Component:
    name, version = normalised(found.metadata["Name"]), found.version
    return _component(name, version, "pypi", licences=_licences(found), hashes=hashes.get((name, version), ()))


def _debian_component(package: DebianPackage, hashes: dict[tuple[str, str], set[str]]) -> Component:
    qualifiers = {"arch": package.arch, "distro": "debian-12"}
    locked = hashes.get((package.name, package.version), ())
    return _component(package.name, package.version, "deb", "debian", qualifiers=qualifiers, hashes=locked)


def _component(
    name: str,
    version: str,
    kind: str,
    namespace: str | None = None,
    *,
    qualifiers: dict[str, str] | None = None,
    licences: Iterable[str] = (),
    hashes: Iterable[str] = (),
    description: str | None = None,
) -> Component:
    from cyclonedx.contrib.license.factories import LicenseFactory
    from cyclonedx.model import ExternalReference, ExternalReferenceType, HashAlgorithm, HashType, XsUri
    from cyclonedx.model.component import Component, ComponentType
    from packageurl import PackageURL

    purl = PackageURL(kind, namespace, name, version, qualifiers)
    archives = [HashType(alg=HashAlgorithm.SHA_256, content=one) for one in sorted(hashes)]
    # The locks name no registry, so the package URL stands for the address; one of the hashes is the file's.
    reference = ExternalReference(type=ExternalReferenceType.DISTRIBUTION, url=XsUri(str(purl)), hashes=archives)
    factory = LicenseFactory()
    return Component(
        name=name,
        version=version,
        type=ComponentType.APPLICATION if name == _OURS else ComponentType.LIBRARY,
        bom_ref=str(purl),
        purl=purl,
        description=description,
        licenses=[factory.make_from_string(licence) for licence in licences],
        external_references=[reference] if archives else [],
    )


def _licences(found: Distribution) -> list[str]:
    """The SPDX expression of the metadata, else its classifiers, else its licence field where that is one SPDX id."""
    from cyclonedx.spdx import is_supported_id

    metadata = found.metadata
    if expressions := metadata.get_all("License-Expression"):
        return expressions
    classifiers = [line.split(" :: ") for line in metadata.get_all("Classifier") or ()]
    names = [words[-1] for words in classifiers if words[0] == "License" and words[-1] != "OSI Approved"]
    if names:
        return sorted({_CLASSIFIERS.get(name, name) for name in names})
    return [stated for stated in metadata.get_all("License") or () if is_supported_id(stated)]


def _python_hashes(locks: Path) -> dict[tuple[str, str], set[str]]:
    """sha256 of every archive that a lock allows, by name and version."""
    hashes: dict[tuple[str, str], set[str]] = {}
    for path in sorted(locks.glob("*.lock")):
        if path.name != _APT_LOCK:
            for pin in parse_lock(path).values():
                hashes.setdefault((pin.name, pin.version), set()).update(pin.hashes)
    return hashes


def _debian_hashes(lock: Path) -> dict[tuple[str, str], set[str]]:
    return {(deb.name, deb.version): {deb.sha256} for deb in parse_apt_lock(lock).values()}


def _encode(bom: Bom) -> str:
    """The text, checked against the schema; its serial number is a digest of the rest."""
    from cyclonedx.output.json import JsonV1Dot5
    from cyclonedx.schema import SchemaVersion
    from cyclonedx.validation.json import JsonStrictValidator

    bom.serial_number = uuid.UUID(int=0)
    bom.serial_number = uuid.uuid5(_NAMESPACE, JsonV1Dot5(bom).output_as_string())
    text = JsonV1Dot5(bom).output_as_string(indent=1) + "\n"
    error = JsonStrictValidator(SchemaVersion.V1_5).validate_str(text)
    if error:
        raise ImageError(f"the bill of materials breaks the schema of CycloneDX 1.5: {str(error).splitlines()[0]}")
    return text


if __name__ == "__main__":
    raise SystemExit(main())
