"""The catalogue names the published files, and the search order finds them where users keep them."""

from __future__ import annotations

from pathlib import Path

import pytest

from racdino.weights import (
    CATALOGUE,
    Architecture,
    WeightsNotFoundError,
    existing_file,
    find,
    find_or_none,
    published,
    published_dinov2,
    published_for,
)
from racdino.weights.catalogue import has_hash

ROOT = Path(__file__).resolve().parents[2]
VITB, R50 = CATALOGUE["dinov2_vitb14"], CATALOGUE["r50_nuimages"]


@pytest.fixture
def folders(tmp_path, monkeypatch):
    """The four folders of the search order, none of which exists."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("RACDINO_WEIGHTS", str(tmp_path / "chosen"))
    return [tmp_path / name for name in ("pretrain", "weight", "chosen", "home/.cache/dinov2")]


def test_addresses_and_hashes():
    assert VITB.url == "https://dl.fbaipublicfiles.com/dinov2/dinov2_vitb14/dinov2_vitb14_pretrain.pth"
    registers = CATALOGUE["dinov2_vitl14_reg"]
    assert registers.url == "https://dl.fbaipublicfiles.com/dinov2/dinov2_vitl14/dinov2_vitl14_reg4_pretrain.pth"
    assert VITB.sha256.startswith("0b8b82f85de91b42")
    dinov2 = [entry for name, entry in CATALOGUE.items() if name.startswith("dinov2")]
    assert len({entry.sha256 for entry in dinov2}) == 8
    assert all(len(bytes.fromhex(entry.sha256)) == 32 for entry in dinov2)


def test_the_resnet_of_the_configs_is_known_by_the_address_and_digits_openmmlab_publishes():
    assert R50.url == (
        "https://download.openmmlab.com/mmdetection3d/v0.1.0_models/nuimages_semseg/"
        "cascade_mask_rcnn_r50_fpn_coco-20e_20e_nuim/"
        "cascade_mask_rcnn_r50_fpn_coco-20e_20e_nuim_20201009_124951-40963960.pth"
    )
    assert R50.sha256 == "40963960"
    text = (ROOT / "configs" / "racformer_r50_nuimg_704x256_f8.py").read_text()
    assert f'load_from = "pretrain/{R50.file}"' in text


@pytest.mark.parametrize(("found", "same"), [("40963960" + "a" * 56, True), ("4096396" + "a" * 57, False)])
def test_of_the_resnets_hash_eight_digits_are_compared(found, same):
    assert has_hash(R50, found) is same


def test_of_dinov2s_hashes_all_digits_are_compared():
    assert has_hash(VITB, VITB.sha256)
    assert not has_hash(VITB, VITB.sha256[:-1] + "0")


def test_the_resnet_is_no_dinov2():
    with pytest.raises(ValueError, match="r50_nuimages are no weights of DINOv2"):
        published_dinov2("r50_nuimages")
    assert published_dinov2("dinov2_vitb14") is VITB


def test_the_resnet_is_found_in_pretrain_and_fetched_to_where_a_config_wants_it(folders):
    with pytest.raises(WeightsNotFoundError, match="`racdino weights fetch r50_nuimages --to pretrain`"):
        existing_file(f"pretrain/{R50.file}")
    with pytest.raises(WeightsNotFoundError, match=r"\(sha256 40963960\.\.\.\).*`racdino weights fetch r50_nuimages`"):
        find(R50)
    folders[0].mkdir()
    (folders[0] / R50.file).touch()
    assert find(R50).resolve() == folders[0] / R50.file


def test_the_weights_follow_the_whole_architecture_not_the_number_of_heads():
    assert published_for(Architecture(768, 12, 12)) is VITB
    assert published_for(Architecture(384, 12, 6, "mlp", 4)).name == "dinov2_vits14_reg"
    assert published_for(Architecture(1536, 40, 24, "swiglufused")).name == "dinov2_vitg14"
    with pytest.raises(ValueError, match=r"no DINOv2 weights were published for Architecture\(embed_dim=768, depth=6"):
        published_for(Architecture(768, 6, 12))


def test_an_unknown_name_lists_the_known():
    with pytest.raises(ValueError, match="no published weights called 'dinov2_vitb16'; there are dinov2_vits14, "):
        published("dinov2_vitb16")


def test_folders_are_searched_in_order(folders):
    for folder in reversed(folders):
        assert find_or_none(VITB) != folder / VITB.file
        folder.mkdir(parents=True)
        (folder / VITB.file).touch()
        assert find(VITB).resolve() == folder / VITB.file


@pytest.mark.usefixtures("folders")
def test_missing_weights_are_named_with_hash_and_command(monkeypatch):
    with pytest.raises(WeightsNotFoundError) as caught:
        find(VITB)
    message = str(caught.value)
    for part in (VITB.file, VITB.sha256, "pretrain, weight, ", "/chosen, ", ".cache/dinov2", "fetch it with"):
        assert part in message
    assert message.endswith("`racdino weights fetch dinov2_vitb14`")
    monkeypatch.delenv("RACDINO_WEIGHTS")
    with pytest.raises(WeightsNotFoundError, match=r"\(\$RACDINO_WEIGHTS is not set\)"):
        find(VITB)


def test_a_given_file_is_taken_whatever_its_name(tmp_path):
    (tmp_path / "mine.pth").touch()
    assert existing_file(tmp_path / "mine.pth") == tmp_path / "mine.pth"
    with pytest.raises(WeightsNotFoundError, match=r"the weights .*other\.pth are missing"):
        existing_file(tmp_path / "other.pth")
    with pytest.raises(WeightsNotFoundError, match=f"{VITB.sha256}.*`racdino weights fetch dinov2_vitb14 --to "):
        existing_file(tmp_path / VITB.file)
