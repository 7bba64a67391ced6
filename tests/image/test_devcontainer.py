"""The dev container comes up as the caller, on the caller's checkout, and the five steps and tests pass in it."""

from __future__ import annotations

import json
import os
import re
import shutil
import stat
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from scripts.image.engine import Engine, find_engine
from scripts.image.errors import ImageError

ROOT = Path(__file__).resolve().parents[2]
CONFIG = Path(".devcontainer") / "cpu" / "devcontainer.json"
CLI = shutil.which("devcontainer")
OTHER = 4321  # a UID that neither the host nor the image has
STEPS = re.search(r"```bash\n(python -c .*?)```", (ROOT / "README.md").read_text(encoding="utf-8"), re.DOTALL)

needs_cli = pytest.mark.skipif(CLI is None, reason="the CLI is not installed: npm install -g @devcontainers/cli")


def read(variant: str) -> dict:
    return json.loads((ROOT / ".devcontainer" / variant / "devcontainer.json").read_text(encoding="utf-8"))


def test_the_two_variants_differ_in_what_names_them_and_in_the_gpu():
    cpu, gpu = read("cpu"), read("gpu")
    different = {key for key in cpu.keys() | gpu.keys() if cpu.get(key) != gpu.get(key)}
    assert different == {"name", "image", "initializeCommand", "hostRequirements"}
    assert gpu["hostRequirements"] == {"gpu": "optional"}


@pytest.mark.parametrize(("variant", "image"), [("cpu", "torch20-cpu"), ("gpu", "torch20-cu118")])
def test_the_image_is_the_one_that_is_built_first(variant: str, image: str):
    config = read(variant)
    assert config["image"] == f"racdino:{image}-dev"
    assert config["initializeCommand"] == ["make", "image", "TARGET=dev", f"VARIANT={image.split('-')[1]}"]


@pytest.mark.parametrize("variant", ["cpu", "gpu"])
def test_nothing_is_privileged(variant: str):
    config = read(variant)
    assert not {"privileged", "capAdd", "securityOpt"} & config.keys()
    assert config["runArgs"] == ["--shm-size=16g"]
    assert config["remoteUser"] == "racdino"
    assert config["updateRemoteUserUID"] is True


@needs_cli
@pytest.mark.parametrize("variant", ["cpu", "gpu"])
def test_the_cli_reads_the_configuration(variant: str):
    config = Path(".devcontainer") / variant / "devcontainer.json"
    answer = subprocess.run(
        [CLI, "read-configuration", "--workspace-folder", ROOT, "--config", ROOT / config],
        capture_output=True,
        text=True,
        check=False,
    )
    assert answer.returncode == 0, answer.stderr
    assert json.loads(answer.stdout)["workspace"]["workspaceFolder"] == "/workspace"


@pytest.fixture(scope="module")
def engine() -> Engine:
    try:
        found = find_engine()
    except ImageError as error:
        pytest.skip(str(error))
    if not found.has_image(read("cpu")["image"]):
        pytest.skip(f"{read('cpu')['image']} is not built: make image TARGET=dev VARIANT=cpu")
    return found


@pytest.fixture(scope="module")
def caller() -> int:
    return OTHER if os.getuid() == 0 else os.getuid()


@pytest.fixture(scope="module")
def checkout(caller: int) -> Iterator[Path]:
    """A copy of this checkout that belongs to the caller, as a clone of theirs would."""
    with tempfile.TemporaryDirectory(prefix="racdino-devcontainer-") as name:
        folder = Path(name) / "checkout"
        listing = ["git", "-C", str(ROOT), "ls-files", "--cached", "--others", "--exclude-standard", "-z"]
        names = subprocess.run(listing, capture_output=True, text=True, check=True).stdout.split("\0")
        for path in filter(None, names):
            if (ROOT / path).is_file():
                (folder / path).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(ROOT / path, folder / path)
        # The image is there already; a build of it is not what this proves.
        config = {**read("cpu"), "initializeCommand": ["true"]}
        (folder / CONFIG).write_text(json.dumps(config), encoding="utf-8")
        # The CLI asks for the caller's name, and a UID that is nobody's has none.
        (folder.parent / "id").write_text('#!/bin/sh\n[ "$*" = "-u -n" ] && echo someone || exec /usr/bin/id "$@"\n')
        (folder.parent / "id").chmod(0o755)
        if os.getuid() == 0:
            for path in (folder.parent, *folder.parent.rglob("*")):
                os.chown(path, caller, caller)
        yield folder


@pytest.fixture(scope="module")
def devcontainer(engine: Engine, checkout: Path, caller: int) -> Iterator[Callable[..., subprocess.CompletedProcess]]:
    """Call the CLI as the caller on the running dev container; the container goes when the tests are over."""
    prefix = []
    if os.getuid() == 0:
        socket = Path("/var/run/docker.sock")
        group = socket.stat().st_gid if socket.exists() and stat.S_ISSOCK(socket.stat().st_mode) else caller
        prefix = ["setpriv", "--reuid", str(caller), "--regid", str(caller), "--groups", str(group)]
    variables = {
        **engine.environment(),
        "HOME": str(checkout.parent),
        "PATH": f"{checkout.parent}:{os.environ['PATH']}",
    }
    places = ["--workspace-folder", checkout, "--config", checkout / CONFIG, "--docker-path", engine.path]

    def call(verb: str, *words: str) -> subprocess.CompletedProcess:
        command = [*prefix, CLI, verb, *places, *words]
        return subprocess.run(command, env=variables, cwd=checkout, capture_output=True, text=True, check=False)

    up = call("up")
    label = f"label=devcontainer.local_folder={checkout}"
    containers = engine.output(["ps", "-aq", "--filter", label]).split()
    try:
        assert up.returncode == 0, up.stdout + up.stderr
        yield call
    finally:
        for container in containers:
            shown = json.loads(engine.output(["container", "inspect", container]))[0]
            engine.output(["rm", "--force", "--volumes", container])
            for mount in shown["Mounts"]:
                if mount["Type"] == "volume":
                    engine.output(["volume", "rm", mount["Name"]])
            if shown["Config"]["Image"].endswith("-uid"):
                engine.output(["image", "rm", shown["Config"]["Image"]])


@needs_cli
@pytest.mark.container
@pytest.mark.slow
class TestDevContainer:
    def test_the_user_is_the_caller_and_may_write(self, devcontainer, checkout: Path, caller: int):
        answer = devcontainer("exec", "sh", "-c", "id -un && id -u && touch made ~/.cache/made && stat -c %u ~/.cache")
        assert answer.stdout.split() == ["racdino", str(caller), str(caller)], answer.stderr
        assert (checkout / "made").stat().st_uid == caller

    def test_the_checkout_answers_before_the_images_copy(self, devcontainer):
        answer = devcontainer("exec", "python", "-c", "import racdino.ops; print(racdino.__file__)")
        assert answer.stdout.strip() == "/workspace/racdino/__init__.py", answer.stderr

    @pytest.mark.parametrize("step", STEPS[1].splitlines() if STEPS else [], ids="{:.40}".format)
    def test_each_of_the_five_steps_passes(self, devcontainer, step: str):
        answer = devcontainer("exec", "bash", "-c", step)
        assert answer.returncode == 0, answer.stdout + answer.stderr
        assert "✅" in answer.stdout

    def test_tests_run_in_it(self, devcontainer):
        answer = devcontainer("exec", "python", "-m", "pytest", "-q", "-m", "not slow", "tests/ops", "tests/doctor")
        assert answer.returncode == 0, answer.stdout[-4000:] + answer.stderr
        assert " passed" in answer.stdout


def test_the_readme_has_the_five_steps_that_are_run():
    assert STEPS
    assert len(STEPS[1].splitlines()) == 5
