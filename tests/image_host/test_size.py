"""What an image weighs adds up, and an image over its budget fails with one sentence."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import pytest

from scripts.image import size, weigh
from scripts.image.errors import ImageError
from scripts.image.size import LayerSize, Weight, excess, measure, read_budget, read_layers, record, report

BUDGET = {"ratio": 1.15, "growth": 1.02, "recorded": {}}
PARTS = {
    "python": 50_000_000,
    "byte code": 4_000_000,
    "distributions": {"torch": 900_000_000, "six": 40_000, "racdino": 300_000},
    "debian": {"libc6": 13_000_000},
}
DOCKER_HISTORY = """\
{"CreatedBy":"COPY /venv /opt/venv # buildkit","Size":"950000000"}
{"CreatedBy":"ENV LANG=C.UTF-8","Size":"0"}
{"CreatedBy":"/bin/sh -c   apt-get","Size":"30000000"}
"""
PODMAN_HISTORY = """\
{"id":"1","created":"2026-11-25T22:44:26Z","CreatedBy":"COPY /venv /opt/venv # buildkit","size":950000000,"comment":""}
{"id":"2","created":"2026-11-25T22:44:26Z","CreatedBy":"ENV LANG=C.UTF-8","size":0,"comment":""}
{"id":"3","created":"2026-11-25T22:44:26Z","CreatedBy":"/bin/sh -c   apt-get","size":30000000,"comment":""}
"""


class FakeEngine:
    """Answers as an engine that holds one image."""

    def __init__(self, history: str = DOCKER_HISTORY, labels: str = '{"org.racdino.variant":"cpu"}') -> None:
        self.answers = {"image": labels, "run": json.dumps(PARTS), "history": history}

    def output(self, arguments: list[str]) -> str:
        return self.answers[arguments[0]]


def weight(**changes) -> Weight:
    return Weight(**{**vars(measure(FakeEngine(), "racdino:made")), **changes})


@pytest.mark.parametrize("history", [DOCKER_HISTORY, PODMAN_HISTORY], ids=["docker", "podman"])
def test_the_layers_are_read_from_either_engine_lowest_first(history):
    assert read_layers(FakeEngine(history), "racdino:made") == [
        LayerSize(30_000_000, "/bin/sh -c apt-get"),
        LayerSize(950_000_000, "COPY /venv /opt/venv # buildkit"),
    ]


def test_the_ratio_leaves_out_what_no_lock_brings():
    made = weight()
    assert made.size == 980_000_000
    assert made.locked == 50_000_000 + 900_000_000 + 40_000
    assert made.ratio == pytest.approx(980 / 950.04)


def test_the_report_names_every_layer_and_its_parts_add_up_to_the_image():
    text = report(weight(), BUDGET)
    assert "   950.0 MB  COPY /venv /opt/venv # buildkit" in text
    assert "   900.0 MB  torch" in text
    assert "     0.3 MB  2 smaller ones" in text
    lines = text.split("\n\n")[2].splitlines()
    assert [line.strip() for line in lines] == [
        "900.3 MB  all Python packages",
        "50.0 MB  Python",
        "13.0 MB  1 Debian packages, by dpkg",
        "4.0 MB  byte code",
        "12.7 MB  the rest",
    ]
    assert "ratio: 1.032" in text
    assert "no size of cpu is recorded" in text


def test_an_image_over_the_ratio_is_named():
    assert excess(weight(), BUDGET) is None
    sentence = excess(weight(python=1), BUDGET | {"ratio": 1.05})
    assert sentence.startswith(
        "racdino:made weighs 1.089 of its locked packages and Python, and size-budget.json allows 1.05"
    )


def test_an_image_that_grew_is_named_with_what_grew(tmp_path):
    path = tmp_path / "budget.json"
    record(path, BUDGET, weight())
    budget = read_budget(path)
    assert excess(weight(), budget) is None
    grown = weight(
        layers=[LayerSize(1_000_000_000, "COPY")], distributions={**PARTS["distributions"], "torch": 920_000_000}
    )
    assert excess(grown, budget) == (
        "racdino:made weighs 1,000.0 MB, more than 1.02 of the 980.0 MB in size-budget.json: undo the growth above, or "
        "accept it with --record."
    )
    assert report(grown, budget).splitlines()[-2:] == ["growth: +20.0 MB since it was recorded", "    +20.0 MB  torch"]


def test_recording_one_variant_keeps_the_others_and_the_limits(tmp_path):
    path = tmp_path / "budget.json"
    record(path, BUDGET, weight(variant="cu118"))
    record(path, read_budget(path), weight())
    budget = read_budget(path)
    assert list(budget["recorded"]) == ["cpu", "cu118"]
    assert (budget["ratio"], budget["growth"]) == (1.15, 1.02)


@pytest.mark.parametrize(("ratio", "status"), [(1.15, 0), (1.01, 1)])
def test_the_exit_status_tells(monkeypatch, tmp_path, capsys, ratio, status):
    path = tmp_path / "budget.json"
    path.write_text(json.dumps(BUDGET | {"ratio": ratio}))
    monkeypatch.setattr(size, "BUDGET", path)
    monkeypatch.setattr(size, "find_engine", FakeEngine)
    assert size.main(["racdino:made"]) == status
    assert len(capsys.readouterr().err.splitlines()) == status


def test_an_image_of_somebody_else_is_refused():
    with pytest.raises(ImageError, match=r"debian:12 has no label org\.racdino\.variant"):
        measure(FakeEngine(labels="null"), "debian:12")


def test_a_python_that_does_not_start_is_told_without_the_script(monkeypatch):
    engine = FakeEngine()

    def output(arguments):
        if arguments[0] == "run":
            raise ImageError(f"`docker {' '.join(arguments)}` failed: no libpython")
        return FakeEngine.output(engine, arguments)

    monkeypatch.setattr(engine, "output", output)
    with pytest.raises(ImageError, match=r"^racdino:made could not be weighed from inside \(no libpython\)"):
        measure(engine, "racdino:made")


@pytest.mark.parametrize("text", ["", "{}", '{"ratio": 1}'])
def test_a_damaged_budget_is_named(tmp_path, text):
    path = tmp_path / "budget.json"
    path.write_text(text)
    with pytest.raises(ImageError, match=r"budget\.json .*restore it with git"):
        read_budget(path)


def test_the_budget_holds_the_bar_of_the_issue():
    assert read_budget(size.BUDGET)["ratio"] <= 1.15


def test_the_parts_are_weighed_from_the_files(tmp_path):
    prefix, python = tmp_path / "venv", tmp_path / "python"
    site = prefix / "lib/python3.10/site-packages"
    info = site / "Demo_App-1.0.dist-info"
    for folder in (info, site / "demo/__pycache__", python):
        folder.mkdir(parents=True)
    (site / "demo/core.py").write_bytes(b"x" * 100)
    (site / "demo/__pycache__/core.cpython-310.pyc").write_bytes(b"x" * 70)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: Demo_App\nVersion: 1.0\n")
    named = ("demo/core.py", "demo/__pycache__/core.cpython-310.pyc", "Demo_App-1.0.dist-info/METADATA", "demo/gone.py")
    (info / "RECORD").write_text("".join(f"{name},,\n" for name in named))
    (python / "python3.10").write_bytes(b"x" * 1000)
    os.link(python / "python3.10", python / "python3")
    (python / "os.pyc").write_bytes(b"x" * 5)
    status = tmp_path / "status"
    status.write_text(
        "Package: libc6\nStatus: install ok installed\nInstalled-Size: 3\nDescription: a\n Package: no\n\n"
        "Package: removed\nStatus: deinstall ok config-files\nInstalled-Size: 9\n"
    )
    assert weigh.weigh(prefix, python, status) == {
        "python": 1000,
        "byte code": 75,
        "distributions": {"demo-app": 100 + (info / "METADATA").stat().st_size},
        "debian": {"libc6": 3072},
    }


@pytest.mark.container
def test_the_engines_own_sizes_are_the_sizes_of_the_files(tmp_path):
    engine = real_docker()
    (tmp_path / "root").mkdir()
    (tmp_path / "root/file").write_bytes(b"x" * 12345)
    archive = subprocess.run(["tar", "-C", tmp_path / "root", "-c", "."], capture_output=True, check=True).stdout
    command = [engine.path, "import", "--change", "LABEL a=b", "-"]
    image = subprocess.run(command, input=archive, capture_output=True, check=True).stdout.decode().strip()
    try:
        assert [layer.size for layer in read_layers(engine, image)] == [12345]
        with pytest.raises(ImageError, match="has no label"):
            measure(engine, image)
    finally:
        engine.output(["image", "rm", image])


def real_docker():
    try:
        return size.find_engine("docker")
    except ImageError as error:
        pytest.skip(str(error))


def test_the_script_that_runs_inside_needs_nothing_of_this_project():
    text = Path(weigh.__file__).read_text()
    assert "racdino" not in text
    assert len(text) < 100_000  # it travels as one argument
