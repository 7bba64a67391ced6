"""Registering is idempotent, and a copied class is refused with a sentence that names both."""

from __future__ import annotations

import pytest
from mmdet.models.builder import BACKBONES

from racdino.openmmlab import DinoAdapter
from racdino.openmmlab.configs import ConfigError, read_config
from racdino.openmmlab.registration import register_backbone, registered_backbone


def test_registering_twice_is_nothing():
    register_backbone(DinoAdapter)
    register_backbone(DinoAdapter)
    assert BACKBONES.get("DinoAdapter") is registered_backbone("DinoAdapter") is DinoAdapter


def test_a_copy_of_the_class_is_refused_by_name():
    copy = type("DinoAdapter", (DinoAdapter,), {"__module__": "my.copy"})
    with pytest.raises(KeyError, match=r"already registered .* by racdino\.backbones.*my\.copy.*delete the copy"):
        register_backbone(copy)
    assert BACKBONES.get("DinoAdapter") is DinoAdapter


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("model = dict(", "does not load: SyntaxError"),
        ("import no_such_module_here", "does not load: ModuleNotFoundError"),
        ("_base_ = ['./gone.py']", "does not load"),
    ],
)
def test_a_broken_config_is_one_sentence(tmp_path, text, sentence):
    path = tmp_path / "broken.py"
    path.write_text(text)
    with pytest.raises(ConfigError, match=sentence) as caught:
        read_config(path)
    assert "\n" not in str(caught.value)


def test_a_missing_config_is_named(tmp_path):
    with pytest.raises(ConfigError, match=r"There is no config at .*gone\.py"):
        read_config(tmp_path / "gone.py")
