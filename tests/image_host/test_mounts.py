"""A checkout is used as it is: what its links lead to is where they look for it, and no folder is made unasked."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from scripts.image.errors import ImageError
from scripts.image.mounts import Mount, find_checkout, plan_mounts


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    folder = tmp_path / "home" / "mine"
    (folder / "data").mkdir(parents=True)
    (folder / "train.py").touch()
    return folder


@pytest.fixture
def store(tmp_path: Path) -> Path:
    folder = tmp_path / "store" / "nuscenes"
    (folder / "samples").mkdir(parents=True)
    return folder


def others(folder: Path, data: str | None = None) -> list[Mount]:
    first, *rest = plan_mounts(folder, data).mounts
    assert first == Mount(folder, Path("/workspace"), readonly=False)
    return rest


def on_the_host(inside: Path, mounts: list[Mount]) -> Path | None:
    mounted = [mount for mount in mounts if inside.is_relative_to(mount.target)]
    last = max(mounted, key=lambda mount: len(mount.target.parts), default=None)
    return last.source / inside.relative_to(last.target) if last else None


def resolved_inside(path: str, mounts: list[Mount]) -> Path | None:
    """Follow a path as the container's kernel does, name by name, on the host's files: the reference for the plan."""
    inside, todo = Path("/"), [part for part in path.split("/") if part]
    for _ in range(100):
        if not todo:
            break
        name = todo.pop(0)
        if name == "..":
            inside = inside.parent
            continue
        inside /= name
        here = on_the_host(inside, mounts)
        if here and here.is_symlink():
            text = str(here.readlink())
            todo = [part for part in text.split("/") if part] + todo
            inside = Path("/") if text.startswith("/") else inside.parent
    return on_the_host(inside, mounts)


def test_a_checkout_is_known_by_its_training_script_or_its_folders(tmp_path: Path):
    assert find_checkout(tmp_path) is None
    (tmp_path / "models").mkdir()
    assert find_checkout(tmp_path) is None
    (tmp_path / "configs").mkdir()
    assert find_checkout(tmp_path) == tmp_path


def test_our_own_clone_is_a_checkout():
    assert find_checkout(Path(__file__).resolve().parents[2])


def test_without_a_checkout_results_go_to_a_folder_that_the_caller_owns(tmp_path: Path):
    plan = plan_mounts(tmp_path, None)
    assert plan.mounts == [Mount(tmp_path / "outputs", Path("/outputs"), readonly=False)]
    assert plan.folders == [tmp_path / "outputs"]
    assert not (tmp_path / "outputs").exists()
    (tmp_path / "outputs").mkdir()
    assert plan_mounts(tmp_path, None).folders == []


def test_a_plain_checkout_is_mounted_alone(checkout: Path):
    (checkout / "data" / "nuscenes").mkdir()
    assert others(checkout) == []


def test_what_a_link_leads_to_is_mounted_read_only_where_the_link_looks_for_it(checkout: Path, store: Path):
    (checkout / "data" / "nuscenes").symlink_to(store)
    assert others(checkout) == [Mount(store, store, readonly=True)]


@pytest.mark.parametrize(
    "layout",
    [
        {"data/nuscenes": "{store}"},
        {"data/nuscenes": "../../../store/nuscenes"},
        {"data": "{base}/store"},
        {"data": "../../store"},
        {"data/nuscenes": "{base}/second", "../../second": "{store}"},
        {"data/nuscenes": "../third", "third": "{store}"},
        {"data/nuscenes": "{base}/home/mine/inside", "inside/samples/": ""},
        {"data": "{base}/links", "../../links/nuscenes": "../store/nuscenes"},
    ],
    ids=["absolute", "relative", "data", "data-relative", "two-links", "by-the-checkout", "inside", "below-data"],
)
def test_every_kind_of_link_resolves_in_the_container_to_what_it_resolves_to_here(
    checkout: Path, store: Path, tmp_path: Path, layout: dict[str, str]
):
    for link, text in layout.items():
        path = Path(os.path.normpath(checkout / link))
        if link.endswith("/"):
            path.mkdir(parents=True)
            continue
        path.parent.mkdir(exist_ok=True)
        if path.is_dir():
            path.rmdir()
        path.symlink_to(text.format(store=store, base=tmp_path))
    plan = plan_mounts(checkout, None)
    assert plan.remarks == []
    found = resolved_inside("/workspace/data/nuscenes/samples", plan.mounts)
    assert found
    assert found.resolve() == (checkout / "data" / "nuscenes" / "samples").resolve()
    assert found.is_dir()


def test_linked_weights_are_readable_and_linked_outputs_writable(checkout: Path, tmp_path: Path):
    weights, scratch = tmp_path / "weights", tmp_path / "scratch"
    for folder in (weights, scratch):
        folder.mkdir()
    (checkout / "pretrain").symlink_to(weights)
    (checkout / "outputs").symlink_to(scratch)
    assert others(checkout) == [Mount(weights, weights), Mount(scratch, scratch, readonly=False)]


def test_a_link_to_nowhere_is_named_and_not_mounted(checkout: Path, tmp_path: Path):
    (checkout / "data" / "nuscenes").symlink_to(tmp_path / "unmounted")
    plan = plan_mounts(checkout, None)
    assert len(plan.mounts) == 1
    (remark,) = plan.remarks
    assert remark.startswith(f"{checkout}/data/nuscenes leads to {tmp_path}/unmounted, which does not exist here")


@pytest.mark.parametrize("target", ["/", "/usr", "/opt"])
def test_a_link_that_would_hide_a_part_of_the_image_is_refused(checkout: Path, target: str):
    (checkout / "data" / "nuscenes").symlink_to(target)
    with pytest.raises(ImageError, match="hide what the image has there"):
        plan_mounts(checkout, None)


def test_the_data_set_that_is_named_is_mounted_read_only(checkout: Path, store: Path, tmp_path: Path):
    (checkout / "data" / "nuscenes").mkdir()
    assert others(checkout, str(store)) == [Mount(store, Path("/workspace/data/nuscenes"))]
    empty = tmp_path / "empty"
    empty.mkdir()
    assert plan_mounts(empty, str(store)).mounts[-1] == Mount(store, Path("/opt/racdino/data/nuscenes"))


def test_no_mount_point_is_made_behind_the_users_back(checkout: Path, store: Path):
    with pytest.raises(ImageError, match=rf"mkdir -p {checkout}/data/nuscenes"):
        plan_mounts(checkout, str(store))
    assert not (checkout / "data" / "nuscenes").exists()


def test_a_named_data_set_and_a_link_are_one_too_many(checkout: Path, store: Path):
    (checkout / "data" / "nuscenes").symlink_to(store)
    with pytest.raises(ImageError, match="unset RACDINO_DATA"):
        plan_mounts(checkout, str(store))


def test_a_named_data_set_must_exist(checkout: Path, tmp_path: Path):
    with pytest.raises(ImageError, match=r"RACDINO_DATA=.*nowhere is no folder"):
        plan_mounts(checkout, str(tmp_path / "nowhere"))


def test_a_name_that_no_engine_can_mount_is_named():
    with pytest.raises(ImageError, match="a,b has a comma"):
        Mount(Path("/a,b"), Path("/c")).option()
