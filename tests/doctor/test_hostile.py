"""No checkout, whatever is in it, is executed by the doctor, crashes it or makes it wait."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from racdino.doctor.checkout import subject
from racdino.doctor.checkout.subject import Checkout
from racdino.doctor.registry import CHECKS
from scripts.drill import tree

ROOT = Path(__file__).resolve().parents[2]
NAMES = ("imports", "configs", "data")
TRAP = "from pathlib import Path\nPath(r'{mark}').write_text('executed')\nraise SystemExit(7)\n"


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    return tree.copy(tmp_path / "RACDION")


def said(root: Path) -> list[str]:
    """Every finding that is not OK, as text; raises what a check raises."""
    checks = [check for check in CHECKS.values() if check.of_checkout and not check.live]
    read = Checkout(root)
    return [f"{f.code} {f.place}: {f.cause}" for c in checks for f in c.findings(read) if f.severity.value != "ok"]


def doctor(root: Path, *options: str, cwd: Path | None = None) -> subprocess.CompletedProcess[bytes]:
    """The command itself, which must end by itself: in seconds, but the machine may be slow."""
    return subprocess.run(
        [sys.executable, "-m", "racdino.doctor", str(root), "--only", ",".join(NAMES), *options],
        cwd=cwd or ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        timeout=120,
        check=False,
    )


HOSTILE = {
    "binary": bytes(range(256)) * 100,
    "NUL": b"import os\n\0\n",
    "half a file": b"class A:\n    def f(self",
    "minus signs": b"x = " + b"-" * 200_000 + b"1",
    "brackets": b"x = " + b"[" * 200_000,
    "a chain of attributes": b"x = a" + b".a" * 200_000,
    "a chain of calls": b"x = f" + b"()" * 200_000,
    "a sum": b"x = 1" + b"+1" * 200_000,
    "a path of many parts": b"import sys\nsys.path.append(a" + b"/'b'" * 100_000 + b")",
    "elif": b"if a: pass\n" + b"elif a: pass\n" * 20_000,
    "a long string": b"x = '" + b"a" * 500_000 + b"'",
    "an unknown encoding": b"# -*- coding: klingon -*-\nx = 1\n",
    "an encoding that is none": b"# -*- coding: zlib -*-\nx = 1\n",
    "a wrong encoding": "# 配置\n".encode("gbk"),
    "UTF-16": "x = 1\n".encode("utf-16"),
    "a BOM": b"\xef\xbb\xbfx = 1\n",
    "tabs and spaces": b"if 1:\n\tx = 1\n        y = 2\n",
    "an import of itself": b"from hostile import x\n",
    "dots into nowhere": b"from ......... import x\n",
    "nothing": b"",
}


@pytest.mark.parametrize("content", HOSTILE.values(), ids=HOSTILE.keys())
@pytest.mark.parametrize("name", ["hostile.py", "models/racformer.py", "configs/hostile.py", "hostile.sh"])
def test_no_content_of_a_file_breaks_a_check(checkout, name, content):
    (checkout / name).write_bytes(content)
    begin = time.monotonic()
    said(checkout)
    assert time.monotonic() - begin < 60


@pytest.mark.parametrize("name", ["hostile.py", "models/__init__.py", "configs/hostile.py", "setup.py", "json.py"])
def test_no_code_of_the_checkout_runs(checkout, tmp_path, name):
    mark = tmp_path / "mark"
    (checkout / name).write_text(TRAP.format(mark=mark))
    for cwd in (ROOT, checkout):
        assert doctor(checkout, cwd=cwd).returncode in {0, 1}
    assert not mark.exists()


def test_the_trap_of_that_test_works(checkout, tmp_path):
    (checkout / "json.py").write_text(TRAP.format(mark=tmp_path / "mark"))
    assert subprocess.run([sys.executable, "-c", "import json"], cwd=checkout, check=False).returncode == 7
    assert (tmp_path / "mark").exists()


def test_links_in_a_circle_are_not_followed(checkout):
    (checkout / "models/loop").symlink_to("..")
    (checkout / "loaders/a.py").symlink_to("b.py")
    (checkout / "loaders/b.py").symlink_to("a.py")
    (checkout / "configs/loop").symlink_to("../configs")
    assert any("loaders/a.py: cannot be read: Too many levels of symbolic links" in line for line in said(checkout))
    assert not any("loop" in name for name in Checkout(checkout).names)


@pytest.mark.parametrize("name", ["loaders/frames.py", "configs/pipe.py", "run.sh", "pretrain/weights.pth"])
def test_a_named_pipe_is_not_opened(checkout, name):
    (checkout / name).unlink(missing_ok=True)
    (checkout / name).parent.mkdir(exist_ok=True)
    os.mkfifo(checkout / name)
    assert doctor(checkout).returncode in {0, 1}


def test_a_device_and_a_file_without_end_are_not_read(checkout):
    (checkout / "loaders/frames.py").unlink()
    (checkout / "loaders/frames.py").symlink_to("/dev/zero")
    with (checkout / "models/sparse.py").open("wb") as file:
        file.truncate(1 << 40)
    lines = said(checkout)
    assert any("loaders/frames.py: is not text: it is no regular file" in line for line in lines)
    assert any("models/sparse.py: is not text: it has 1073741824 KiB" in line for line in lines)


def test_names_that_are_no_text_are_printed_as_far_as_they_can_be(checkout):
    folder = os.fsencode(checkout)
    for name in (b"\xff\xfe.py", b"new\nline.py", b"\x1b[31mred.py", "名.py".encode("gbk")):
        with open(os.path.join(folder, name), "wb") as file:  # noqa: PTH123, PTH118  (bytes)
            file.write(b"x = (\n")
    done = doctor(checkout)
    assert done.stdout.decode("utf-8").count("does not parse") == 4
    assert b"\x1b[31mred" not in done.stdout
    found = json.loads(doctor(checkout, "--json").stdout)["findings"]
    assert sum("does not parse" in finding["cause"] for finding in found) == 4


def test_a_folder_that_may_not_be_read_is_named(checkout, monkeypatch):
    real = os.scandir

    def refuse(path):
        if str(path).endswith("models"):
            raise PermissionError(13, "Permission denied")
        return real(path)

    monkeypatch.setattr(os, "scandir", refuse)  # root may read everything, and tests run as root in a container
    assert any("models: cannot be listed: Permission denied" in line for line in said(checkout))


def test_a_hundred_thousand_files_are_given_up_in_time(checkout):
    for folder in range(5):
        (checkout / f"models/many{folder}").mkdir()
        for number in range(20_000):
            (checkout / f"models/many{folder}/f{number}.py").touch()
    begin = time.monotonic()
    done = doctor(checkout)
    assert time.monotonic() - begin < 60
    assert done.returncode in {0, 1}


def test_what_was_not_looked_at_is_said(checkout, monkeypatch):
    monkeypatch.setattr(subject, "MOST_ENTRIES", 3)
    assert any("has more than 3 entries; the rest was not looked at" in line for line in said(checkout))
    monkeypatch.setattr(subject, "MOST_ENTRIES", 20_000)
    monkeypatch.setattr(subject, "MOST_READING", 1e-9)
    assert any("reading stopped after 1e-09 s" in line for line in said(checkout))
    monkeypatch.setattr(subject, "MOST_LISTING", 0.0)
    assert any("listing stopped after 0 s" in line for line in said(checkout))


def test_folders_inside_each_other_are_no_deep_water(checkout):
    folder = checkout
    for _ in range(400):
        folder = folder / "d"
        folder.mkdir()
    (folder / "x.py").write_text("import nowhere_at_all\n")
    said(checkout)
