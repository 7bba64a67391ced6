"""A data set in miniature for the metrics; a rendered one and a detector that knows the answers for the commands."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from miniature import infos_of, write_tables
from nuscenes import NuScenes

BASE = Path(__file__).resolve().parents[2] / "configs/racformer_r50_nuimg_704x256_f8.py"
IMAGE = (160, 90)


@pytest.fixture(scope="session")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tables(tmp_path_factory.mktemp("data") / "nuscenes")


@pytest.fixture(scope="session")
def nusc(root: Path) -> NuScenes:
    return NuScenes("v1.0-mini", str(root), verbose=False)


@pytest.fixture(scope="session")
def infos(nusc: NuScenes) -> list[dict[str, Any]]:
    return infos_of(nusc)


@pytest.fixture(scope="session")
def rendered(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One scene of two samples in mini_train, one in mini_val, with info files."""
    from racdino.data.prepare import prepare
    from racdino.synthetic.dataset import synthesize
    from racdino.synthetic.parameters import Parameters

    folder = tmp_path_factory.mktemp("rendered")
    synthesize(folder, Parameters(scenes=2, samples_per_scene=2, image_size=IMAGE), 1)
    prepare(folder, "v1.0-mini", 1, skip=False)
    return folder


@pytest.fixture
def config(rendered: Path, tmp_path: Path) -> Callable[..., Path]:
    """Writes the baseline's config for the rendered data set, its model replaced by an `Oracle`."""
    import oracle  # noqa: F401  (registers it)
    from mmcv import Config

    def write(**oracle_options: Any) -> Path:
        content = Config.fromfile(str(BASE))
        for split, name in (("train", "train"), ("val", "val"), ("test", "val")):
            options = content.data[split]
            options.data_root = f"{rendered}/"
            options.ann_file = str(rendered / f"nuscenes_infos_{name}_mini_sweep.pkl")
            for step in options.pipeline:
                if "ida_aug_conf" in step:
                    step.ida_aug_conf = {**step.ida_aug_conf, "H": IMAGE[1], "W": IMAGE[0], "final_dim": (32, 64)}
        content.data.workers_per_gpu = 0
        content.model = {"type": "Oracle", "folder": str(rendered), **oracle_options}
        path = tmp_path / "racformer_oracle.py"
        # Not `Config.dump`, which lets yapf spend seconds on the layout.
        path.write_text("\n".join(f"{key} = {value!r}" for key, value in content._cfg_dict.to_dict().items()))
        return path

    return write


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    path = tmp_path / "epoch_7.pth"
    torch.save({"meta": {"epoch": 7}, "state_dict": {"scale": torch.ones(1)}}, path)
    return path
