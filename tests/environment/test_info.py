"""`racdino info` repeats what the build wrote, as text and as one JSON object."""

from __future__ import annotations

import json

import pytest

import racdino
from racdino.cli import main
from racdino.environment import image, info
from racdino.environment.state import State, write_state

IMAGE = {
    "variant": "cu118",
    "revision": "0123abc",
    "version": "0.1.0",
    "created": "2026-11-25T00:00:00Z",
    "python": {"version": "3.10.19", "origin": "host"},
    "base": {"origin": "bootstrapped", "name": "debian bookworm"},
    "arch-list": ["8.0", "9.0+PTX"],
    "locks": {"cu118.lock": "ab" * 32, "apt.lock": "cd" * 32},
}


@pytest.fixture
def prefix(tmp_path):
    """An environment as the image's build leaves it."""
    for name in ("torch-2.0.0+cu118", "mmcv_full-1.6.0", "numpy-1.23.5"):
        (tmp_path / f"lib/python3.10/site-packages/{name}.dist-info").mkdir(parents=True)
    notes = tmp_path / "racdino"
    notes.mkdir()
    (notes / "image.json").write_text(json.dumps(IMAGE))
    (notes / "sbom.cdx.json").write_text('{"bomFormat": "CycloneDX", "components": []}')
    (notes / "cubins.json").write_text('{"lib/mmcv/_ext.x.so": {"cubins": ["8.0", "9.0"], "ptx": ["9.0"]}}')
    return tmp_path


def test_the_text_names_everything_in_aligned_lines(prefix):
    lines = dict(line.split("  ", 1) for line in info.as_text(str(prefix)).splitlines())
    shown = {name.strip(): value.strip() for name, value in lines.items()}
    assert shown["racdino"] == racdino.__version__
    assert shown["variant"] == "cu118"
    assert shown["python"].startswith("3.10.19, ")
    assert "relocated" in shown["python"]
    assert shown["base"] == "debian bookworm, bootstrapped"
    assert shown["GPU targets"] == "8.0 9.0+PTX"
    assert shown["torch"] == "2.0.0+cu118"
    assert shown["flash-attn"] == "not installed"
    assert shown["mmcv-full runs on"] == "8.0 9.0+PTX"
    assert shown["apt.lock"] == f"sha256 {'cd' * 32}"
    assert len({len(line) - len(line[24:]) for line in info.as_text(str(prefix)).splitlines()}) == 1


def test_the_object_holds_the_record_and_the_package_list_whole(prefix):
    known = json.loads(info.as_json(str(prefix)))
    assert known["image"] == IMAGE
    assert known["sbom"]["bomFormat"] == "CycloneDX"
    assert known["cubins"] == {"mmcv-full": {"cubins": ["8.0", "9.0"], "ptx": ["9.0"]}}
    assert known["locks"] == IMAGE["locks"]


def test_outside_the_image_it_is_what_setup_left(prefix):
    for name in ("image.json", "sbom.cdx.json", "cubins.json"):
        (prefix / "racdino" / name).unlink()
    assert image.variant(prefix) is None
    assert "none: `make setup` did not make this" in info.as_text(str(prefix))
    write_state(prefix, State("cpu", False, "3.10.13", {"cpu.lock": "ef" * 32}, {}, {}, "", ""))
    assert image.variant(prefix) == "cpu"
    known = json.loads(info.as_json(str(prefix)))
    assert (known["variant"], known["image"], known["sbom"]) == ("cpu", None, None)
    assert known["locks"] == {"cpu.lock": "ef" * 32}
    assert "cpu.lock" in info.as_text(str(prefix))


def test_the_command_prints_either(capsys):
    assert main(["info"]) == 0
    assert capsys.readouterr().out.startswith("racdino  ")
    assert main(["info", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["version"] == racdino.__version__
