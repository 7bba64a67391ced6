"""Each command of docs/running.md is one that its tool understands; those that need no GPU are run as they stand."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from scripts.image import run
from scripts.image.engine import Engine, find_engine
from scripts.image.errors import ImageError
from scripts.image.mounts import Mount, Mounts

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "running.md").read_text(encoding="utf-8")
JOB = ROOT / "docs" / "kubernetes" / "job.yaml"
SBATCH = ROOT / "docs" / "slurm" / "train.sbatch"
BLOCKS = re.findall(r"(<!-- run by tests/image -->\n)?```bash\n(.*?)```", PAGE, re.DOTALL)
TOOLS = ("apptainer", "docker", "enroot", "kubectl", "mkdir", "podman", "sbatch", "srun", "sudo")
CONFIG = "configs/racformer_r50_nuimg_704x256_f8_with_dinov2_fixed.py"


def recorded(
    script: list[str], folder: Path, **variables: str
) -> tuple[list[list[str]], subprocess.CompletedProcess[str]]:
    """The commands that a shell makes of a script, word by word: each tool only writes down what it was given."""
    for tool in TOOLS:
        (folder / tool).write_text(f"#!/bin/sh\nprintf '%s\\0' {tool} \"$@\" >> {folder}/log; echo >> {folder}/log\n")
        (folder / tool).chmod(0o755)
    environment = {"PATH": f"{folder}:/usr/bin:/bin", **variables}
    command = ["bash", "-eu", *script]
    answer = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    log = folder / "log"
    lines = log.read_text().split("\n")[:-1] if log.exists() else []
    return [line.split("\0")[:-1] for line in lines], answer


@pytest.fixture
def commands(tmp_path: Path) -> list[list[str]]:
    script = "".join(block for _, block in BLOCKS)
    found, answer = recorded(["-c", script], tmp_path)
    assert answer.returncode == 0, answer.stderr
    return found


def options(command: list[str]) -> set[str]:
    """The long options before the image's name, which ends the engine's own."""
    words = command[2 : next(i for i, word in enumerate(command) if word.startswith("racdino"))]
    return {word.split("=")[0] for word in words if word.startswith("--")}


def test_the_page_has_commands_for_every_platform(commands: list[list[str]]):
    assert {command[0] for command in commands} == set(TOOLS) - {"srun"}


@pytest.mark.parametrize("tool", ["docker", "podman"])
def test_the_engine_knows_every_option_of_the_page(commands: list[list[str]], tool: str):
    program = shutil.which(tool)
    if program is None:
        pytest.skip(f"{tool} is not installed, so its own list of options cannot be asked")
    listed = subprocess.run([program, "run", "--help"], capture_output=True, text=True, check=True).stdout
    runs = [command for command in commands if command[:2] == [tool, "run"]]
    assert runs
    assert {option for command in runs for option in options(command) if f"{option} " not in listed} == set()


@pytest.mark.parametrize("tool", ["docker", "podman"])
def test_the_training_command_is_what_invoke_composes(
    commands: list[list[str]], tool: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    (written,) = [command for command in commands if command[0] == tool and "train" in command]
    monkeypatch.setattr(run, "has_nvidia_gpu", lambda: True)
    monkeypatch.setattr(run, "_shared_memory", lambda: "16g")
    monkeypatch.setattr("scripts.image.engine._CDI_FOLDERS", (tmp_path,))
    (tmp_path / "nvidia.yaml").write_text("kind: nvidia.com/gpu\n")
    data = Mount(Path("/path/to/nuscenes"), Path("/workspace/data/nuscenes"))
    mounts = [Mount(ROOT, Path("/workspace"), readonly=False), data]
    engine = Engine(tool, Path(tool), "", rootless=tool == "podman")
    composed = run.compose(engine, "racdino", ["train", CONFIG], Mounts(mounts, [], []))
    unsaid = {"--pull=never", "--ulimit", "--group-add", "--security-opt"}  # what the page can do without
    assert set(written) <= set(composed)
    assert {word for word in composed if word.startswith("--")} - unsaid == {w for w in written if w.startswith("--")}
    assert written[-3:] == composed[-3:]


def test_files_that_the_page_names_exist(commands: list[list[str]]):
    named = re.findall(r"(?:docs|configs)/[\w/.-]+", " ".join(word for command in commands for word in command))
    assert {"docs/kubernetes/job.yaml", "docs/slurm/train.sbatch", CONFIG} <= set(named)
    assert [name for name in named if not (ROOT / name).exists()] == []


def test_the_slurm_job_is_one_srun_with_the_callers_words(tmp_path: Path):
    script = [str(SBATCH), "a b.py", "--seed", "0"]
    (srun,), answer = recorded(script, tmp_path, IMAGE="./racdino.sqsh", RACDINO_DATA="/sets/nuscenes")
    assert answer.returncode == 0, answer.stderr
    assert srun == [
        "srun",
        "--container-image=./racdino.sqsh",
        f"--container-mounts={ROOT}:/workspace,/sets/nuscenes:/workspace/data/nuscenes:ro",
        "--container-workdir=/workspace",
        "--no-container-mount-home",
        *("/opt/venv/bin/racdino", "train", "a b.py", "--seed", "0"),
    ]


@pytest.mark.parametrize("missing", ["IMAGE", "RACDINO_DATA"])
def test_a_slurm_job_without_its_image_or_data_says_so(tmp_path: Path, missing: str):
    variables = {"IMAGE": "./racdino.sqsh", "RACDINO_DATA": "/sets/nuscenes"}
    del variables[missing]
    found, answer = recorded([str(SBATCH), CONFIG], tmp_path, **variables)
    assert answer.returncode != 0
    assert found == []
    assert f"set {missing} to" in answer.stderr


def job() -> dict:
    yaml = pytest.importorskip("yaml", reason="pyyaml reads the Job and is not installed")
    return yaml.safe_load(JOB.read_text(encoding="utf-8"))


def schema_versions() -> list[str]:
    try:
        import kubernetes_validate
    except ImportError:
        return []
    folder = Path(kubernetes_validate.__file__).parent / "kubernetes-json-schema"
    return sorted({path.name.split("-")[0][1:-2] for path in folder.iterdir()}, key=lambda v: int(v.split(".")[1]))


@pytest.mark.skipif(not schema_versions(), reason="kubernetes-validate, which carries the schemas, is not installed")
@pytest.mark.parametrize("version", schema_versions())
def test_the_job_fits_the_schema_of_kubernetes(version: str):
    import kubernetes_validate

    kubernetes_validate.validate(job(), version, strict=True)
    wrong = job()
    wrong["spec"]["template"]["spec"]["containers"][0]["image_"] = "x"
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(wrong, version, strict=True)


def test_the_job_grants_nothing_and_mounts_all_that_it_declares():
    pod = job()["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    security = pod["securityContext"]
    assert security["runAsNonRoot"] is True
    assert security["runAsUser"] == security["fsGroup"] == 1000
    assert security["seccompProfile"] == {"type": "RuntimeDefault"}
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    volumes = {volume["name"]: volume for volume in pod["volumes"]}
    mounts = {mount["name"]: mount for mount in container["volumeMounts"]}
    assert volumes.keys() == mounts.keys()
    for name, mount in mounts.items():
        claim = volumes[name].get("persistentVolumeClaim", {})
        assert mount.get("readOnly", False) == claim.get("readOnly", False)
    assert volumes["shared-memory"]["emptyDir"]["medium"] == "Memory"
    assert volumes["shared-memory"]["emptyDir"]["sizeLimit"]
    assert mounts["shared-memory"]["mountPath"] == "/dev/shm"
    assert (ROOT / container["args"][1]).is_file()


@pytest.fixture(scope="module")
def docker() -> Engine:
    try:
        engine = find_engine("docker")
    except ImageError as error:
        pytest.skip(str(error))
    if not engine.has_image("racdino:latest"):
        pytest.skip("racdino:latest is not built: make image")
    return engine


@pytest.mark.container
@pytest.mark.slow
@pytest.mark.parametrize("block", [block for marked, block in BLOCKS if marked], ids=lambda block: block.split("\n")[0])
def test_what_needs_no_gpu_runs_as_it_stands(docker: Engine, block: str, tmp_path: Path):
    environment = {**os.environ, "PATH": f"{docker.path.parent}:{os.environ['PATH']}"}
    command = ["bash", "-euc", block]
    answer = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert answer.returncode == 0, answer.stdout[-4000:] + answer.stderr[-4000:]
    written = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert bool(written) == ("outputs" in block)
    assert {path.stat().st_uid for path in written} <= {os.getuid()}
