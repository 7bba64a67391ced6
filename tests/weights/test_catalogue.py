"""The catalogue names the published files, and the search order finds them where users keep them."""

from __future__ import annotations

import pytest

from racdino.weights import (
    CATALOGUE,
    Architecture,
    WeightsNotFoundError,
    existing_file,
    find,
    find_or_none,
    published,
    published_for,
)

VITB = CATALOGUE["dinov2_vitb14"]


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
    assert len({entry.sha256 for entry in CATALOGUE.values()}) == 8
    assert all(len(bytes.fromhex(entry.sha256)) == 32 for entry in CATALOGUE.values())


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
