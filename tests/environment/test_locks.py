"""The locks parse, are complete, name no registry, and their variants differ in the accelerator packages alone."""

from __future__ import annotations

from pathlib import Path

import pytest

from racdino.environment.locks import LOCKS, LockError, normalised, parse_lock, read_header
from scripts.locking.render import LOCK_FILES

HASH = "a" * 64
ALL = ["build.lock", "cpu.lock", "cu118.lock", "dev.lock", "flash-attn.lock", "tools.lock", "bootstrap.lock"]


def parse(folder: Path, text: str):
    (folder / "x.lock").write_text(text)
    return parse_lock(folder / "x.lock")


def test_a_pin_has_its_version_and_every_hash(tmp_path: Path):
    text = f"# head\nMmcv_Full==1.6.0 \\\n    --hash=sha256:{HASH} \\\n    --hash=sha256:{'b' * 64}\n    # via x\n"
    text += f"six==1.16.0 --hash=sha256:{HASH}\n"
    pins = parse(tmp_path, text)
    assert list(pins) == ["mmcv-full", "six"]
    assert pins["mmcv-full"] == ("mmcv-full", "1.6.0", None, (HASH, "b" * 64))


def test_a_url_gives_the_version_of_its_wheel(tmp_path: Path):
    url = "https://example.org/whl/torch-2.0.0%2Bcu118-cp310-cp310-linux_x86_64.whl"
    pin = parse(tmp_path, f"torch @ {url} \\\n    --hash=sha256:{HASH}\n")["torch"]
    assert (pin.version, pin.url) == ("2.0.0+cu118", url)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("six==1.16.0\n", "x.lock:1: six has no hash"),
        (f"six>=1.16.0 --hash=sha256:{HASH}\n", "neither `name==version` nor"),
        (f"six==1.16.0 --hash=md5:{HASH}\n", "is not a sha256 hash"),
        (f"--index-url https://example.org\nsix==1 --hash=sha256:{HASH}\n", "x.lock:1"),
        (f"six==1 --hash=sha256:{HASH}\nSix==2 --hash=sha256:{HASH}\n", "x.lock:2: six is locked twice"),
    ],
)
def test_what_is_not_pinned_and_hashed_is_refused_by_line(tmp_path: Path, text: str, says: str):
    with pytest.raises(LockError, match="lock") as error:
        parse(tmp_path, text)
    assert says in str(error.value)


def test_a_missing_lock_says_how_it_is_made(tmp_path: Path):
    with pytest.raises(LockError, match="`invoke lock` generates it"):
        parse_lock(tmp_path / "none.lock")


def test_names_are_compared_as_the_registry_does():
    assert normalised("Nvidia_cuBLAS.cu11") == "nvidia-cublas-cu11"


@pytest.mark.parametrize("lock", [*ALL, "apt.lock"])
def test_no_lock_names_a_registry_or_an_index(lock: str):
    text = (LOCKS / lock).read_text()
    for word in ("py" + "pi", "python" + "hosted", "debian" + ".org", "--index", "--find-links"):
        assert word not in text
    allowed = ("https://download.pytorch.org/", "https://github.com/astral-sh/uv/releases/")
    assert [line for line in text.splitlines() if "://" in line and not any(url in line for url in allowed)] == []


def test_the_variants_differ_in_the_accelerator_packages_alone():
    cpu, cu118 = parse_lock(LOCKS / "cpu.lock"), parse_lock(LOCKS / "cu118.lock")
    differing = {name for name in cpu.keys() | cu118.keys() if cpu.get(name) != cu118.get(name)}
    assert {name for name in differing if not name.startswith("nvidia-")} == {"torch", "torchvision"}
    assert not [name for name in cu118 if name.startswith("nvidia-")]


def test_what_the_users_checkout_imports_is_in_both_variants():
    imported = {"timm", "loguru", "einops", "seaborn", "pyturbojpeg", "matplotlib", "tensorboard", "pyquaternion"}
    stack = {
        "torch": "2.0.0",
        "mmcv-full": "1.6.0",
        "mmdet": "2.28.2",
        "mmdet3d": "1.0.0rc6",
        "nuscenes-devkit": "1.1.11",
    }
    stack |= {"xformers": "0.0.19", "spconv-cu118": "2.3.6", "cumm-cu118": "0.4.11"}
    for variant in ("cpu", "cu118"):
        pins = parse_lock(LOCKS / f"{variant}.lock")
        assert imported <= pins.keys()
        assert {name: pins[name].version.split("+")[0] for name in stack} == stack


def test_what_is_installed_together_agrees():
    cpu = parse_lock(LOCKS / "cpu.lock")
    for name, pin in parse_lock(LOCKS / "build.lock").items():
        assert name not in cpu or cpu[name] == pin
    for lock in ("dev.lock", "flash-attn.lock"):
        assert not parse_lock(LOCKS / lock).keys() & cpu.keys()
    everything = {**cpu, **parse_lock(LOCKS / "dev.lock")}
    for name, pin in parse_lock(LOCKS / "tools.lock").items():
        assert everything[name] == pin


def test_every_lock_is_looked_at_here():
    assert {path.name for path in LOCKS.glob("*.lock")} == {*ALL, "apt.lock"}
    assert {*ALL} == {*LOCK_FILES}


def test_setup_finds_the_compilers_facts_without_the_table():
    header = read_header(LOCKS / "build.lock")
    assert header["nvcc"] == "11.8.89"
    assert header["python"] == "3.10"
    assert header["arch-list"].split()[-1] == "9.0+PTX"
