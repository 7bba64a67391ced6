"""The image's operator serves a checkout that is mounted there, exactly when it was built from the same sources."""

from __future__ import annotations

import json

import pytest
import torch

from racdino.environment import extension_cache
from racdino.ops import _library


@pytest.fixture
def two(tmp_path, monkeypatch):
    """(the checkout's, the image's): both of the checkout's sources and this torch, as far as their records say."""
    package = tmp_path / "checkout"
    (package / "csrc").mkdir(parents=True)
    (package / "csrc" / "op.cpp").write_text("int x;")
    libraries = package / "_C.so", tmp_path / "image" / "_C.so"
    facts = {"torch": torch.__version__, "sources": extension_cache.sources_digest(package / "csrc")}
    for library in libraries:
        library.parent.mkdir(exist_ok=True)
        library.touch()
        extension_cache.record_path(library).write_text(json.dumps({"facts": facts}))
    monkeypatch.setattr(_library, "PACKAGE", package)
    monkeypatch.setattr(_library, "LIBRARY", libraries[0])
    monkeypatch.setattr(_library, "IMAGE_LIBRARY", libraries[1])
    monkeypatch.setenv("RACDINO_IMAGE", "1")
    return libraries


def test_the_images_comes_first_in_the_image_and_only_there(two, monkeypatch):
    assert _library.find() == two[1]
    monkeypatch.delenv("RACDINO_IMAGE")
    assert _library.find() == two[0]


def test_a_checkout_without_one_or_with_one_for_another_torch_is_served(two):
    extension_cache.record_path(two[0]).write_text('{"facts": {"torch": "1.0"}}')
    assert _library.find() == two[1]
    two[0].unlink()
    assert _library.find() == two[1]


def test_edited_sources_need_an_operator_of_their_own(two):
    source = _library.PACKAGE / "csrc" / "op.cpp"
    source.write_text("int y;")
    with pytest.raises(ImportError, match=r"is stale \(racdino/csrc changed since\)"):
        _library.find()
    facts = {"torch": torch.__version__, "sources": extension_cache.sources_digest(source.parent)}
    extension_cache.record_path(two[0]).write_text(json.dumps({"facts": facts}))
    assert _library.find() == two[0]
