"""`racdino train` without a config goes from nothing to metrics and pictures, and goes on from where it was."""

from __future__ import annotations

import json

import pytest

from racdino import demo


@pytest.mark.slow
def test_the_demo_renders_trains_evaluates_and_draws(tmp_path, monkeypatch, capfd):
    """One epoch of it: what it learns in all of them is the demo's own to show."""
    monkeypatch.setenv("RACDINO_OUTPUTS", str(tmp_path))
    monkeypatch.setattr(demo, "SCENES", ("--scenes", "2", "--samples-per-scene", "3", "--image-size", "800x450"))
    options = demo._data_options
    short = ["total_epochs=1", "log_config.hooks.0.interval=1"]  # one iteration an epoch
    monkeypatch.setattr(demo, "_data_options", lambda root: [*options(root), *short])
    assert demo.main() == 0
    folder = tmp_path / "demo"
    metrics = json.loads((folder / "eval" / "metrics.json").read_text())
    assert 0 <= metrics["NDS"] <= 1
    assert (folder / "run" / "epoch_1.pth").is_file()
    assert (folder / "run" / "curves.png").is_file()
    assert "data:image" in (folder / "show" / "index.html").read_text()
    capfd.readouterr()
    assert demo.main() == 0, "again: nothing is rendered or trained twice"
    assert "already there" in capfd.readouterr().out


def test_options_without_a_config_are_refused_in_one_sentence(capsys):
    assert demo.main(["--amp", "bf16"]) == 2
    assert capsys.readouterr().err.startswith("racdino train: --amp comes without a config. The demo takes no options;")
