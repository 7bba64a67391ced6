"""Samples of a data set in one small file: images as JPEG, each once; maps without what repeats or is zero."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch

from racdino.detector import Batch

_QUALITY = 95
_CAMERAS = 6


class Samples:
    """What `racdino.detector.Batch` needs of each sample, packed; `batch` unpacks.

    Radar maps have the same number in all rows of a column, so one row is kept.
    """

    def __init__(self, packed: dict[str, np.ndarray]) -> None:
        self.packed = packed
        self.images: dict[int, torch.Tensor] = {}

    def __len__(self) -> int:
        return int(self.packed["count"])

    @classmethod
    def of(cls, dataset: Any) -> Samples:
        """The samples of a CustomNuScenesDataset_radar in test mode, with their truth."""
        packed: dict[str, np.ndarray] = {"count": np.array(len(dataset))}
        places: dict[str, int] = {}
        for index in range(len(dataset)):
            collected = {key: value[0] for key, value in dataset[index].items()}
            meta = collected["img_metas"].data
            images = collected["img"].data.numpy()
            for name, image in zip(meta["filename"], images, strict=True):
                if name not in places:
                    places[name] = len(places)
                    done, encoded = cv2.imencode(".jpg", image.transpose(1, 2, 0), [cv2.IMWRITE_JPEG_QUALITY, _QUALITY])
                    assert done
                    packed[f"image/{places[name]}"] = encoded
            truth = dataset.get_ann_info(index)
            near = truth["gt_bboxes_3d"].in_range_bev([-51.2, -51.2, 51.2, 51.2]).numpy() & (truth["gt_labels_3d"] >= 0)
            clouds = [_plain(points) for points in collected["radar_points"]]
            depth = _plain(collected["gt_depth"])
            known = depth.nonzero()
            packed |= {
                f"{index}/images": np.array([places[name] for name in meta["filename"]]),
                f"{index}/size": np.array(images.shape[-2:]),
                f"{index}/lidar2img": np.array(meta["lidar2img"], np.float32),
                f"{index}/time": np.array(meta["img_timestamp"], np.float64),
                f"{index}/radar": np.concatenate(clouds).astype(np.float32),
                f"{index}/radar_counts": np.array([len(cloud) for cloud in clouds]),
                f"{index}/radar_depth": _plain(collected["radar_depth"])[:, :1].astype(np.float32),
                f"{index}/radar_rcs": _plain(collected["radar_rcs"])[:, :1].astype(np.float32),
                f"{index}/depth_at": np.stack(known).astype(np.int16),
                f"{index}/depth": depth[known].astype(np.float16),
                f"{index}/boxes": truth["gt_bboxes_3d"].tensor.numpy()[near],
                f"{index}/labels": truth["gt_labels_3d"][near],
            }
        return cls(packed)

    def write(self, path: Path) -> None:
        np.savez_compressed(path, **self.packed)

    @classmethod
    def read(cls, path: Path) -> Samples:
        with np.load(path) as file:
            return cls(dict(file))

    def batch(self, indices: Sequence[int], device: str, radar: bool, epoch: int = 0) -> Batch:
        """``radar=False`` takes away points and maps alike."""
        parts = [self._unpack(index, device, radar) for index in indices]

        def stacked(key: str) -> torch.Tensor:
            return torch.stack([part[key] for part in parts])

        return Batch(
            img=stacked("img"),
            lidar2img=stacked("lidar2img"),
            img_timestamp=stacked("time"),
            radar_points=[part["radar"] for part in parts],
            radar_depth=stacked("radar_depth"),
            radar_rcs=stacked("radar_rcs"),
            gt_depth=stacked("gt_depth"),
            gt_boxes=[part["boxes"] for part in parts],
            gt_labels=[part["labels"] for part in parts],
            sample_keys=tuple(epoch * len(self) + index for index in indices),
        )

    def _unpack(self, index: int, device: str, radar: bool) -> dict[str, Any]:
        found = {
            name: self.packed[f"{index}/{name}"] for name in ("images", "size", "radar_counts", "depth_at", "depth")
        }
        tensors = {
            name: torch.from_numpy(self.packed[f"{index}/{name}"]).to(device)
            for name in ("lidar2img", "time", "radar", "radar_depth", "radar_rcs", "boxes", "labels")
        }
        height, width = map(int, found["size"])
        depth = torch.zeros(_CAMERAS, height, width)
        depth[tuple(torch.from_numpy(axis.astype(np.int64)) for axis in found["depth_at"])] = torch.from_numpy(
            found["depth"].astype(np.float32)
        )
        keep = 1.0 if radar else 0.0
        clouds = tensors["radar"].split(found["radar_counts"].tolist())
        return {
            **tensors,
            "img": torch.stack([self._image(place, device) for place in found["images"].tolist()]),
            "radar": [cloud if radar else cloud[:0] for cloud in clouds],
            "radar_depth": (tensors["radar_depth"] * keep).expand(-1, height, -1),
            "radar_rcs": (tensors["radar_rcs"] * keep).expand(-1, height, -1),
            "gt_depth": depth.to(device),
        }

    def _image(self, place: int, device: str) -> torch.Tensor:
        if place not in self.images:
            decoded = cv2.imdecode(self.packed[f"image/{place}"], cv2.IMREAD_COLOR)
            self.images[place] = torch.from_numpy(decoded).permute(2, 0, 1).contiguous().to(device)
        return self.images[place]


def _plain(value: Any) -> np.ndarray:
    value = getattr(value, "data", value) if type(value).__name__ == "DataContainer" else value
    return np.asarray(getattr(value, "tensor", value))
