"""The engine is the one that answers, and why none does is one sentence."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from scripts.image.engine import Engine, find_engine
from scripts.image.errors import ImageError

ROOT = Path(__file__).resolve().parents[2]
CLIENT_ALONE = """
[ "$1" = --version ] && echo "Docker version 28.2.2, build 1" && exit
echo "{said}" >&2; exit 1
"""
DAEMON_DOWN = "Cannot connect to the Docker daemon at unix:///var/run/docker.sock. Is the docker daemon running?"
DENIED = "Got permission denied while trying to connect to the Docker daemon socket: connect: permission denied"


def refusal(requested: str | None = None) -> str:
    with pytest.raises(ImageError) as error:
        find_engine(requested)
    sentence = str(error.value)
    assert "\n" not in sentence
    assert sentence.endswith(".")
    return sentence


def test_docker_comes_before_podman(docker, podman):
    podman()
    client = docker()
    assert find_engine() == Engine("docker", client, "20.10.24", rootless=False, builds=True)


def test_podman_serves_where_docker_does_not_answer(place, podman):
    place("docker", CLIENT_ALONE.format(said=DAEMON_DOWN))
    client = podman()
    assert find_engine() == Engine("podman", client, "4.3.1", rootless=True)


@pytest.mark.parametrize("by_argument", [True, False])
def test_the_user_chooses(docker, podman, monkeypatch, by_argument):
    docker()
    podman()
    if not by_argument:
        monkeypatch.setenv("RACDINO_ENGINE", "podman")
    assert find_engine("podman" if by_argument else None).name == "podman"


def test_an_engine_that_is_asked_for_is_never_replaced_by_another(place, podman):
    place("docker", CLIENT_ALONE.format(said=DAEMON_DOWN))
    podman()
    assert "daemon does not answer" in refusal("docker")


def test_a_client_without_an_engine_is_passed_over(place, docker):
    place("docker", CLIENT_ALONE.format(said=DAEMON_DOWN))
    place("docker", "exit 127")
    client = docker()
    assert find_engine().path == client


def test_of_two_clients_the_one_that_can_build_is_used(docker):
    docker(client="28.2.2")
    able = docker()
    assert find_engine().path == able
    find_engine().require_builder()


def test_a_new_client_builds_with_its_plugin_only(docker):
    docker(client="28.2.2", buildx=1)
    with pytest.raises(ImageError, match="cannot build without its buildx plugin"):
        find_engine().require_builder()
    first = docker(client="28.2.2", buildx=0)
    assert find_engine().path == first


def test_a_docker_that_is_podman_is_podman(podman):
    shim = podman(rootless="false", name="docker")
    assert find_engine() == Engine("podman", shim, "4.3.1", rootless=False)


def test_rootless_docker_is_recognised(docker):
    docker(security='["name=seccomp,profile=default","name=rootless"]')
    assert find_engine().rootless


def test_no_engine(place):
    assert refusal().startswith("no container engine is installed: apt install docker.io")
    assert refusal("podman").startswith("podman is not installed")


def test_a_daemon_that_is_down_names_the_command_that_starts_it(place):
    place("docker", CLIENT_ALONE.format(said=DAEMON_DOWN))
    assert "systemctl start docker" in refusal()


def test_a_socket_that_is_closed_to_the_caller_names_the_group(place):
    place("docker", CLIENT_ALONE.format(said=DENIED))
    assert "usermod -aG docker" in refusal()


def test_a_broken_podman_is_quoted(place):
    place("podman", '[ "$1" = --version ] && echo "podman version 4" && exit; echo "no subuid ranges" >&2; exit 125')
    assert "no subuid ranges" in refusal()


def test_an_engine_that_does_not_exist(place):
    assert refusal("nerdctl").startswith("the engine nerdctl is not known: use docker or podman")


def test_gpus_reach_docker_by_its_own_option():
    found = Engine("docker", Path("docker"), "20.10.24", rootless=False)
    assert found.gpu_options(False) == []
    assert found.gpu_options(True) == ["--gpus", "all"]
    assert found.gpu_options(True, "0") == ["--gpus", "device=0"]
    assert found.gpu_options(True, "0,2") == ["--gpus", '"device=0,2"']


def test_gpus_reach_podman_by_their_cdi_description(place, tmp_path):
    found = Engine("podman", Path("podman"), "4.3.1", rootless=True)
    with pytest.raises(ImageError, match=r"nvidia-ctk cdi generate --output=/etc/cdi/nvidia\.yaml"):
        found.gpu_options(True)
    (tmp_path / "cdi").mkdir()
    (tmp_path / "cdi" / "nvidia.yaml").write_text("cdiVersion: 0.5.0\nkind: nvidia.com/gpu\n")
    assert found.gpu_options(True) == ["--device", "nvidia.com/gpu=all"]
    assert found.gpu_options(True, "0,2") == ["--device", "nvidia.com/gpu=0", "--device", "nvidia.com/gpu=2"]
    assert found.gpu_options(False) == []


def test_buildkit_is_switched_on_for_what_the_engine_runs(place):
    client = place("docker", 'echo "$DOCKER_BUILDKIT $1"')
    assert Engine("docker", client, "20.10.24", rootless=False).output(["build"]) == "1 build\n"


def test_a_failed_command_names_itself_and_its_status(docker, capfd):
    docker()
    found = find_engine()
    with pytest.raises(ImageError, match=r"`docker build` ended with status 7"):
        found.run(["build", "a b"])
    assert capfd.readouterr().out == "argument=build\nargument=a b\n"
    assert found.has_image("racdino:latest")
    assert not found.has_image("racdino:none")


def test_the_host_side_needs_no_package():
    code = "import scripts.image.run, sys; print(*{name.split('.')[0] for name in sys.modules})"
    answer = subprocess.run([sys.executable, "-S", "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert set(answer.stdout.split()) - sys.stdlib_module_names - {"__main__"} == {"scripts"}


@pytest.mark.skipif(os.getuid() == 0, reason="no folder is closed to root")
def test_a_folder_on_path_that_is_closed_to_the_caller_is_passed_over(place, docker):
    closed = place("docker", "exit 0").parent
    closed.chmod(0)
    client = docker()
    assert find_engine().path == client
