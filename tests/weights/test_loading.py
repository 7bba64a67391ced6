"""Weights enter a model whole or not at all, from published files, training checkpoints and safetensors."""

from __future__ import annotations

import dataclasses

import pytest
import torch

from racdino.backbones import DinoAdapter, DinoVisionTransformer, dinov2_vits14
from racdino.environment.hashing import sha256
from racdino.weights import CATALOGUE, Architecture, Published, WeightsNotFoundError
from racdino.weights.checkpoint import CheckpointError
from racdino.weights.loading import load_into

TINY = {"num_heads": 2, "pretrain_size": 28, "embed_dim": 24, "depth": 2, "conv_inplane": 8}
TINY |= {"interaction_indexes": [[0, 0], [1, 1]]}


def trunk(seed=0, **changes):
    torch.manual_seed(seed)
    return DinoVisionTransformer(
        **{"img_size": 28, "patch_size": 14, "embed_dim": 24, "depth": 2, "num_heads": 2, "init_values": 1.0, **changes}
    )


def equal(model, weights):
    return all(torch.equal(model.state_dict()[key], value) for key, value in weights.items())


@pytest.mark.parametrize(
    "wrap",
    [
        lambda w: w,
        lambda w: {"teacher": w},
        lambda w: {"teacher": {f"backbone.{k}": v for k, v in w.items()} | {"dino_head.mlp.0.weight": torch.ones(1)}},
        lambda w: {f"teacher.backbone.{k}": v for k, v in w.items()} | {"student.backbone.norm.weight": torch.ones(24)},
        lambda w: {k.replace("blocks.", "blocks.0.") if "blocks.0" in k else k.replace("blocks.", "blocks.1."): v
                   for k, v in w.items()},
    ],
    ids=["published", "teacher", "teacher with backbone and heads", "flat with student", "chunked blocks"],
)  # fmt: skip
def test_layouts(tmp_path, wrap):
    weights = trunk(seed=1).state_dict()
    torch.save(wrap(weights), tmp_path / "weights.pth")
    model = trunk()
    load_into(model, tmp_path / "weights.pth")
    assert equal(model, weights)


def test_safetensors(tmp_path):
    safetensors = pytest.importorskip("safetensors.torch")
    weights = trunk(seed=1).state_dict()
    safetensors.save_file(weights, str(tmp_path / "weights.safetensors"))
    model = trunk()
    load_into(model, tmp_path / "weights.safetensors")
    assert equal(model, weights)


def test_every_misfit_is_named_and_nothing_is_loaded(tmp_path):
    weights = trunk(seed=1).state_dict()
    del weights["blocks.1.ls2.gamma"], weights["norm.bias"]
    weights["register_tokens"] = torch.ones(1, 4, 24)
    weights["pos_embed"] = torch.ones(1, 17, 24)
    torch.save(weights, tmp_path / "weights.pth")
    model = trunk()
    before = {key: value.clone() for key, value in model.state_dict().items()}
    with pytest.raises(CheckpointError) as caught:
        load_into(model, tmp_path / "weights.pth")
    assert str(caught.value) == (
        f"{tmp_path / 'weights.pth'} does not fit the model: missing blocks.1.ls2.gamma; missing norm.bias; "
        "unexpected register_tokens; pos_embed is (1, 17, 24) where the model has (1, 5, 24)"
    )
    assert equal(model, before)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ([1, 2], "holds no state dict"),
        ({1: torch.ones(1)}, "holds no state dict"),
        ({"epoch": 3, "norm.bias": torch.ones(24)}, "holds int where a tensor belongs, at epoch"),
        ({"norm.bias": torch.ones(24), "backbone.norm.bias": torch.ones(24)}, r"has two tensors for norm\.bias"),
    ],
)
def test_what_is_no_state_dict_is_refused(tmp_path, content, message):
    torch.save(content, tmp_path / "odd.pth")
    with pytest.raises(CheckpointError, match=message):
        load_into(trunk(), tmp_path / "odd.pth")


def test_a_file_with_a_published_name_must_have_the_published_hash(tmp_path):
    path = tmp_path / "dinov2_vits14_pretrain.pth"
    torch.save(trunk().state_dict(), path)
    with pytest.raises(
        CheckpointError, match=f"has sha256 {sha256(path)}, the published file b938bf1b.*fetch it again"
    ):
        load_into(trunk(), path)


def test_the_adapter_takes_a_given_file_of_any_architecture(tmp_path):
    weights = trunk(seed=1).state_dict()
    torch.save(weights, tmp_path / "mine.pth")
    model = DinoAdapter(**TINY, pretrained=tmp_path / "mine.pth")
    del weights["mask_token"]
    assert equal(model, weights)
    assert not model.blocks[0].attn.qkv.weight.requires_grad
    assert "mask_token" not in model.state_dict()


def test_the_adapter_finds_the_published_weights_of_its_architecture(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("RACDINO_WEIGHTS", raising=False)
    with pytest.raises(WeightsNotFoundError, match="`racdino weights fetch dinov2_vits14`"):
        DinoAdapter(num_heads=6, embed_dim=384)
    with pytest.raises(WeightsNotFoundError, match="`racdino weights fetch dinov2_vitb14_reg`"):
        DinoAdapter(num_register_tokens=4)
    with pytest.raises(ValueError, match="no DINOv2 weights were published for"):
        DinoAdapter(num_heads=6)  # 768 channels with 6 heads: the number of heads alone decides nothing

    # From here on a small model goes by the name: what is tested is the way, not the size.
    small = Published("dinov2_vits14", "", Architecture(24, 2, 2))
    monkeypatch.setitem(CATALOGUE, "dinov2_vits14", small)
    torch.manual_seed(1)
    weights = dinov2_vits14().state_dict()
    (tmp_path / "weight").mkdir()
    path = tmp_path / "weight" / small.file
    torch.save(weights, path)
    monkeypatch.setitem(CATALOGUE, "dinov2_vits14", dataclasses.replace(small, sha256=sha256(path)))
    assert equal(dinov2_vits14(pretrained=True), weights)
    assert equal(dinov2_vits14(pretrained=path), weights)
    del weights["mask_token"]
    assert equal(DinoAdapter(**{**TINY, "pretrain_size": 518}), weights)


def test_random_initialisation_follows_the_seed():
    first, again, other = (
        (torch.manual_seed(seed), DinoAdapter(**TINY, pretrained_vit=False).state_dict())[1] for seed in (0, 0, 1)
    )
    assert all(torch.equal(first[key], again[key]) for key in first)
    assert not torch.equal(first["pos_embed"], other["pos_embed"])
    assert not torch.equal(first["level_embed"], other["level_embed"])
