"""apt itself resolves the sets of the image, here against an archive of a few packages made by hand."""

from __future__ import annotations

import hashlib
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from racdino.environment.apt import Deb
from scripts.locking import apt
from scripts.locking.main import FETCHER
from scripts.locking.resolve import RegistryError, ResolutionError
from scripts.locking.table import AptTable

NEEDED = [program for program in ("apt-get", "gpg") if not shutil.which(program)]
pytestmark = pytest.mark.skipif(bool(NEEDED), reason=f"needs {' and '.join(NEEDED)}, not installed here")

Row = tuple[str, str, str, str]  # suite, package, version, other fields
MAIN: list[Row] = [
    ("bookworm", "shell", "1", "Essential: yes\nPre-Depends: libc"),
    ("bookworm", "libc", "1", ""),
    ("bookworm", "app", "1", "Depends: libapp (>= 1), libc\nRecommends: manual"),
    ("bookworm", "manual", "1", ""),
    ("bookworm", "libapp", "1", ""),
    ("bookworm-updates", "libapp", "2", ""),
    ("bookworm", "compiler", "12", "Depends: libc"),
    ("bookworm", "toolkit", "11.8", "Depends: libshared"),
    ("bookworm", "git", "2", "Depends: libshared, compiler"),
    ("bookworm", "libshared", "1", ""),
]
SECURITY = [("bookworm-security", "libc", "1+deb12u1", "")]
SETS = {"base": ["?essential"], "runtime": ["app"], "gcc": ["compiler"], "nvcc": ["toolkit"], "dev": ["git"]}


def make_archive(
    folder: Path, suites: list[str], packages: list[tuple[str, str, str, str]], pool: str, gpg: list
) -> None:
    """What apt reads of an archive: an index per suite, and a signed list of the indexes."""
    for suite in suites:
        index = folder / "dists" / suite / "main" / "binary-amd64" / "Packages"
        index.parent.mkdir(parents=True)
        index.write_text("\n".join(_stanza(pool, *row) for place, *row in packages if place == suite))
        data = index.read_bytes()
        release = folder / "dists" / suite / "Release"
        release.write_text(
            f"Origin: Test\nSuite: {suite}\nCodename: {suite}\nDate: Thu, 01 Jan 2026 00:00:00 UTC\n"
            "Architectures: amd64\nComponents: main\n"
            f"SHA256:\n {hashlib.sha256(data).hexdigest()} {len(data)} main/binary-amd64/Packages\n"
        )
        subprocess.run([*gpg, "--clearsign", "--output", release.with_name("InRelease"), release], check=True)


def _stanza(pool: str, name: str, version: str, fields: str) -> str:
    facts = {"Package": name, "Version": version, "Architecture": "amd64", "Maintainer": "x"}
    facts |= {"Filename": f"{pool}/{name}_{version}_amd64.deb", "Size": str(len(name)), "SHA256": digest(name, version)}
    text = "".join(f"{key}: {value}\n" for key, value in facts.items())
    return f"{text}{fields}\n" if fields else text


def digest(name: str, version: str) -> str:
    return hashlib.sha256(f"{name} {version}".encode()).hexdigest()


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    folder = tmp_path_factory.mktemp("archive")
    home = tmp_path_factory.mktemp("gpg")
    home.chmod(0o700)
    gpg = ["gpg", "--homedir", str(home), "--batch", "--quiet", "--passphrase", ""]
    subprocess.run([*gpg, "--quick-generate-key", "test@example.org", "ed25519", "sign", "never"], check=True)
    (folder / "keyring.gpg").write_bytes(subprocess.run([*gpg, "--export"], capture_output=True, check=True).stdout)
    make_archive(folder / "debian", ["bookworm", "bookworm-updates"], MAIN, "pool/main", gpg)
    make_archive(folder / "debian-security", ["bookworm-security"], SECURITY, "pool/updates", gpg)
    yield folder
    subprocess.run(["gpgconf", "--homedir", str(home), "--kill", "all"], check=False)


@pytest.fixture(autouse=True)
def here(archive: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DEBIAN_ARCHIVE", f"file:{archive}")
    monkeypatch.setattr(apt, "_KEYRING", archive / "keyring.gpg")


def table(**changes: list[str]) -> AptTable:
    sets = {name: dict.fromkeys(packages, "why") for name, packages in {**SETS, **changes}.items()}
    return AptTable("bookworm", ("main",), sets)


def test_each_set_has_what_it_needs_beyond_the_sets_below_it():
    debs = apt.resolve(table(), FETCHER)
    assert {name: (deb.sets, deb.version) for name, deb in debs.items()} == {
        "shell": (("base",), "1"),
        "libc": (("base",), "1+deb12u1"),
        "app": (("runtime",), "1"),
        "libapp": (("runtime",), "2"),
        "compiler": (("gcc",), "12"),
        "toolkit": (("nvcc",), "11.8"),
        "git": (("dev",), "2"),
        "libshared": (("nvcc", "dev"), "1"),
    }


def test_each_package_is_held_to_its_file_in_its_archive():
    debs = apt.resolve(table(), FETCHER)
    hashes = {"libc": digest("libc", "1+deb12u1"), "app": digest("app", "1")}
    assert debs["app"] == Deb(
        ("runtime",), "app", "1", "amd64", hashes["app"], 3, "debian", "pool/main/app_1_amd64.deb"
    )
    path = "pool/updates/libc_1+deb12u1_amd64.deb"
    assert debs["libc"] == Deb(("base",), "libc", "1+deb12u1", "amd64", hashes["libc"], 4, "debian-security", path)


def test_a_package_that_does_not_exist_is_named():
    with pytest.raises(ResolutionError, match="Unable to locate package nonesuch"):
        apt.resolve(table(dev=["nonesuch"]), FETCHER)


def test_an_archive_that_is_not_signed_by_debian_is_refused(archive, monkeypatch, tmp_path):
    (tmp_path / "other.gpg").touch()
    monkeypatch.setattr(apt, "_KEYRING", tmp_path / "other.gpg")
    with pytest.raises(RegistryError, match=r"not signed|NO_PUBKEY|couldn't be verified"):
        apt.resolve(table(), FETCHER)


def test_no_archive_is_configured(monkeypatch, tmp_path):
    monkeypatch.delenv("DEBIAN_ARCHIVE")
    monkeypatch.setenv("DEBIAN_SOURCES", str(tmp_path / "none"))
    with pytest.raises(RegistryError, match="set DEBIAN_ARCHIVE to an address"):
        apt.resolve(table(), FETCHER)


def test_a_machine_without_debians_keys_says_so_and_asks_nothing(monkeypatch, tmp_path):
    monkeypatch.setattr(apt, "_KEYRING", tmp_path / "none.gpg")
    with pytest.raises(ResolutionError, match=r"this needs apt-get and .*none\.gpg \(debian-archive-keyring\)"):
        apt.resolve(table(), FETCHER)
