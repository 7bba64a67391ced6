"""Every Python of the image finds a home it may write and a user name, whoever runs it."""

from __future__ import annotations

import json
import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
STRANGER = 54321
NAMES = ("HOME", "USER", "LOGNAME", "XDG_CACHE_HOME")
LOOK = f"import getpass, json, os; print(json.dumps([*map(os.environ.get, {NAMES}), getpass.getuser()]))"
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can run a process as another user")


@pytest.fixture
def place(tmp_path, monkeypatch):
    """A TMPDIR like /tmp, a home that only root can write, and the image's sitecustomize; strangers can reach them."""
    for parent in [tmp_path, *tmp_path.parents[:-2]]:
        if parent.owner() == Path(tmp_path).owner():
            parent.chmod(parent.stat().st_mode | 0o055)
    for name, mode in (("tmp", 0o1777), ("home", 0o555), ("site", 0o755)):
        (tmp_path / name).mkdir()
        (tmp_path / name).chmod(mode)
    (tmp_path / "site/sitecustomize.py").write_text((ROOT / "docker/sitecustomize.py").read_text())
    return tmp_path


def python(place: Path, uid: int | None = None, code: str = LOOK, **variables: str | None) -> str:
    """What the system's own Python, which a stranger can execute, prints when it starts up as the image's does."""
    base = {"PATH": "/usr/bin:/bin", "PYTHONPATH": str(place / "site"), "PYTHONDONTWRITEBYTECODE": "1"}
    base |= {"RACDINO_IMAGE": "1", "HOME": str(place / "home"), "TMPDIR": str(place / "tmp")}
    environment = {name: value for name, value in {**base, **variables}.items() if value is not None}

    def become() -> None:
        if uid is not None:
            os.setgroups([])
            os.setgid(uid)
            os.setuid(uid)

    program = "/usr/bin/python3" if uid is not None and Path("/usr/bin/python3").exists() else sys.executable
    done = subprocess.run(
        [program, "-c", code], env=environment, cwd="/", preexec_fn=become, capture_output=True, text=True, check=False
    )
    if done.returncode == 126 or "Permission denied" in done.stderr:
        pytest.skip(f"{program} cannot be run as user {uid}: {done.stderr.strip()}")
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    return done.stdout


def seen(place: Path, uid: int | None = None, **variables: str | None) -> list[str]:
    return json.loads(python(place, uid, **variables))


@needs_root
def test_a_stranger_gets_a_private_home_and_a_name(place):
    home, user, logname, _, name = seen(place, STRANGER)
    assert home == f"{place}/tmp/racdino-{STRANGER}"
    assert user == logname == name == f"uid{STRANGER}"
    made = Path(home).stat()
    assert (made.st_uid, stat.S_IMODE(made.st_mode)) == (STRANGER, 0o700)
    assert seen(place, STRANGER)[0] == home  # the next process finds the same caches


@needs_root
@pytest.mark.parametrize("home", [None, "", "/", "relative", "/nowhere/at/all"])
def test_a_home_that_is_no_home_is_replaced(place, home):
    assert seen(place, STRANGER, HOME=home)[0] == f"{place}/tmp/racdino-{STRANGER}"


@needs_root
def test_a_home_that_can_be_written_is_kept(place):
    os.chown(place / "home", STRANGER, STRANGER)
    (place / "home").chmod(0o700)
    assert seen(place, STRANGER)[0] == f"{place}/home"
    assert list((place / "tmp").iterdir()) == []


@needs_root
@pytest.mark.parametrize("trap", ["of another", "a link", "open to all", "a file"])
def test_a_folder_that_others_prepared_is_not_used(place, trap):
    path = place / "tmp" / f"racdino-{STRANGER}"
    if trap == "a link":
        (place / "elsewhere").mkdir()
        os.chown(place / "elsewhere", STRANGER, STRANGER)
        path.symlink_to(place / "elsewhere")
    elif trap == "a file":
        path.touch()
    else:
        path.mkdir(mode=0o700)
    if trap == "open to all":
        os.chown(path, STRANGER, STRANGER)
        path.chmod(0o777)
    home = Path(seen(place, STRANGER)[0])
    assert home != path
    assert home.parent == place / "tmp"
    assert (home.stat().st_uid, stat.S_IMODE(home.stat().st_mode)) == (STRANGER, 0o700)


@needs_root
def test_a_temporary_folder_that_is_not_in_the_container_is_passed_over(place):
    home = Path(seen(place, STRANGER, TMPDIR="/scratch/job.17")[0])
    assert home.parent == Path("/tmp")
    assert home.name.startswith(f"racdino-{STRANGER}")
    home.rmdir()


@needs_root
def test_cache_folders_of_the_machine_outside_are_dropped_and_usable_ones_kept(place):
    assert seen(place, STRANGER, XDG_CACHE_HOME="/scratch/alice/.cache")[3] is None
    usable = f"{place}/tmp/cache"
    assert seen(place, STRANGER, XDG_CACHE_HOME=usable)[3] == usable


@needs_root
def test_a_name_that_was_given_is_kept(place):
    assert seen(place, STRANGER, USER="alice")[1:3] == ["alice", "alice"]
    assert seen(place, 0)[1:3] == [None, None]  # root is known to every image


def test_outside_the_image_nothing_is_touched(place):
    home, user, logname, cache, _ = seen(
        place, RACDINO_IMAGE=None, HOME="/nowhere", XDG_CACHE_HOME="/nowhere", LOGNAME="x"
    )
    assert (home, user, logname, cache) == ("/nowhere", None, "x", "/nowhere")


@needs_root
def test_python_starts_where_nothing_can_be_written(place):
    code = (
        "import os, runpy; os.environ['HOME'] = '/nowhere'; os.access = lambda *_: False; "
        f"runpy.run_path('{place}/site/sitecustomize.py'); print(os.environ['HOME'])"
    )
    assert python(place, STRANGER, code) == "/nowhere\n"


def test_numba_and_matplotlib_follow_that_home_without_variables_of_their_own(place):
    pytest.importorskip("numba")
    code = (
        "import json.decoder as d, matplotlib, numba.core.caching as c\n"
        "print(c._UserWideCacheLocator.from_function(d.JSONDecoder.decode, d.__file__).get_cache_path())\n"
        "print(matplotlib.get_cachedir()); print(matplotlib.get_configdir())"
    )
    variables = {"PYTHONPATH": f"{place}/site", "RACDINO_IMAGE": "1", "HOME": "/nowhere", "TMPDIR": f"{place}/tmp"}
    done = subprocess.run([sys.executable, "-c", code], env=variables, capture_output=True, text=True, check=True)
    numba, cache, config = done.stdout.splitlines()
    home = f"{place}/tmp/racdino-{os.geteuid()}"
    assert numba.startswith(f"{home}/.cache/numba/")
    assert (cache, config) == (f"{home}/.cache/matplotlib", f"{home}/.config/matplotlib")
    assert done.stderr == ""
