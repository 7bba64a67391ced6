"""nuScenes with radar for RaCFormer, under upstream's name; no NuScenes object is built."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from mmdet3d.datasets import NuScenesDataset
from mmdet3d.datasets.builder import DATASETS
from mmdet3d.datasets.pipelines import LoadPointsFromFile

from racdino.data.augmentation import sample_key
from racdino.data.errors import SampleError
from racdino.data.info import read_info_file
from racdino.data.lidar_files import check_lidar
from racdino.data.poses import inverse_rigid, lidar_from_global
from racdino.data.projections import camera_from_global, intrinsic_4x4, require_finite
from racdino.data.sample import Sample
from racdino.data.tables import CAMERAS
from racdino.openmmlab.pipelines import LoadMultiViewImageFromFilesLazily

_EAGER, _LAZY = "LoadMultiViewImageFromFiles", LoadMultiViewImageFromFilesLazily.__name__
_ATTEMPTS = 100  # samples without a box in a row before training gives up


@DATASETS.register_module()
class CustomNuScenesDataset_radar(NuScenesDataset):  # noqa: N801  (upstream's name)
    """Key frames with their past, from an info file of ``racdino data prepare``.

    ``dataset[index]`` is the sample in the epoch of ``set_epoch``; ``dataset[epoch, index]`` in any, so that a sampler
    can tell worker processes the epoch. Every random draw follows from (seed, epoch, index): samples are the same
    whatever the number of workers and whatever was loaded before.

    ``img_metas`` also holds ``sample_idx`` (the token), ``sample_key`` (for the model's random numbers) and
    ``left_out`` (how many "boxes" and "radar points" were left out as unusable, and how many "frames without radar
    points" there are).

    Args: mmdet3d's, and
        seed: of the augmentation.
    Raises:
        SampleError: by indexing; one sentence that names the sample and the file.
        ValueError: the classes, the pipeline or the info file do not fit; one sentence.
    """

    def __init__(
        self,
        ann_file: str,
        pipeline: Sequence[Mapping[str, Any]] | None = None,
        data_root: str | None = None,
        classes: Sequence[str] | str | None = None,
        seed: int = 0,
        **options: Any,
    ) -> None:
        self.seed = seed
        self.epoch = 0
        self._roots: dict[str, str] = {}
        _check_classes(self.get_classes(classes), pipeline or ())
        super().__init__(
            ann_file=ann_file,
            pipeline=pipeline and _without_eager_decoding(pipeline),
            data_root=data_root,
            classes=classes,
            **options,
        )
        if not self.test_mode:
            _check_training_infos(self.data_infos, ann_file)

    def load_annotations(self, ann_file: Any) -> list[dict[str, Any]]:
        """The infos in order of time, every ``load_interval``-th; histories go through all of them."""
        ann_file.close()  # mmdet3d hands over an open file; the restricted reader opens its own
        content = read_info_file(self.ann_file)
        infos = content["infos"]
        self.metadata = content["metadata"]
        self.version = self.metadata["version"]
        self.infos = {info["token"]: info for info in infos}
        return sorted(infos, key=lambda info: info["timestamp"])[:: self.load_interval]

    def set_epoch(self, epoch: int) -> None:
        """The epoch of ``dataset[index]``."""
        self.epoch = epoch

    def __getitem__(self, index: int | tuple[int, int]) -> dict[str, Any]:
        epoch, index = index if isinstance(index, tuple) else (self.epoch, index)
        key = sample_key(self.seed, epoch, index)
        random = np.random.Generator(np.random.PCG64(key))
        for _ in range(_ATTEMPTS):
            example = self._load(index, key, random)
            if self.test_mode or not self.filter_empty_gt or len(example["gt_labels_3d"].data):
                return example
            index = int(random.integers(len(self)))
        raise SampleError(
            f"{_ATTEMPTS} samples of {self.ann_file} in a row have no box of {', '.join(self.CLASSES)} in range: "
            "check the classes and point_cloud_range, or set filter_empty_gt=False."
        )

    def prepare_train_data(self, index: int) -> dict[str, Any]:
        return self[index]

    prepare_test_data = prepare_train_data

    def get_data_info(self, index: int) -> dict[str, Any]:
        """What the pipeline starts from: mmdet3d's keys, image times and intrinsics; ``ann_info`` has ``left_out``."""
        info = self.data_infos[index]
        T_global_from_lidar = inverse_rigid(lidar_from_global(info))
        cameras = [info["cams"][channel] for channel in CAMERAS]
        intrinsics = [intrinsic_4x4(camera) for camera in cameras]
        results = {
            "sample_idx": info["token"],
            "pts_filename": self.locate(info["lidar_path"]),
            "timestamp": info["timestamp"] / 1e6,
            "img_filename": [self.locate(camera["data_path"]) for camera in cameras],
            "img_timestamp": [camera["timestamp"] / 1e6 for camera in cameras],
            "intrinsics": intrinsics,
            "lidar2img": [
                intrinsic @ camera_from_global(camera) @ T_global_from_lidar
                for camera, intrinsic in zip(cameras, intrinsics, strict=True)
            ],
        }
        if not self.test_mode:
            results["ann_info"] = self.get_ann_info(index)
        return results

    def get_ann_info(self, index: int) -> dict[str, Any]:
        """mmdet3d's, without boxes that no loss can use: a size of zero, or anything that is not finite."""
        annotations = super().get_ann_info(index)
        boxes = annotations["gt_bboxes_3d"].tensor
        usable = (boxes.isfinite().all(dim=1) & (boxes[:, 3:6] > 0).all(dim=1)).numpy()
        return {
            "gt_bboxes_3d": annotations["gt_bboxes_3d"][usable],
            "gt_labels_3d": annotations["gt_labels_3d"][usable],
            "gt_names": annotations["gt_names"][usable],
            "left_out": int((~usable).sum()),
        }

    def locate(self, path: str) -> str:
        """The path of a file of the data set.

        Info files name it from the data set's folder (samples/...) or from where they were written
        (data/nuscenes/samples/...); the latter counts where such a file is there, else ``data_root`` takes its place.
        """
        folder = next((name for name in ("samples/", "sweeps/") if name in path), None)
        if folder is None:
            return str(Path(self.data_root or ".") / path)
        root, _, rest = path.rpartition(folder)
        if root not in self._roots:
            self._roots[root] = root if root and Path(path).exists() else f"{Path(self.data_root or '.')}/"
        return f"{self._roots[root]}{folder}{rest}"

    def evaluate(
        self, results: Sequence[Mapping[str, Any]], jsonfile_prefix: str | None = None, **_: Any
    ) -> dict[str, float]:
        """Official metrics of mmdet3d's result format, by mmdet3d's names; ``jsonfile_prefix`` is the output folder."""
        from racdino.detector import Detections  # the devkit's evaluation takes seconds to import
        from racdino.evaluation.nuscenes import eval_set_of, evaluate

        found = [result.get("pts_bbox", result) for result in results]
        detections = [Detections(one["boxes_3d"].tensor, one["scores_3d"], one["labels_3d"]) for one in found]
        eval_set = eval_set_of(self.data_infos, self.version)
        with tempfile.TemporaryDirectory() as temporary:
            output = Path(jsonfile_prefix or temporary)
            metrics = evaluate(
                detections, self.data_infos, Path(self.data_root), self.version, eval_set, output, self.CLASSES
            )
        named = {"NDS": metrics.nds, "mAP": metrics.mean_ap, **metrics.errors}
        return {f"pts_bbox_NuScenes/{name}": value for name, value in named.items()}

    def _load(self, index: int, key: int, random: np.random.Generator) -> dict[str, Any]:
        info = self.data_infos[index]
        try:
            results = self.get_data_info(index)
            for projection, filename in zip(results["lidar2img"], results["img_filename"], strict=True):
                require_finite(projection, filename)
            sample = results["sample"] = Sample(info, self.infos, self.locate, random)
            sample.left_out["boxes"] = results.get("ann_info", {}).pop("left_out", 0)
            self.pre_pipeline(results)
            for step in self.pipeline.transforms:
                if isinstance(step, LoadPointsFromFile):
                    check_lidar(results["pts_filename"])  # mmdet3d's own messages do not name the file
                results = step(results)
        except (OSError, ValueError) as error:
            reason = str(error).rstrip(".")
            raise SampleError(f"Sample {info['token']} cannot be loaded: {reason}.") from error
        metas = results.get("img_metas", [])
        for meta in metas if isinstance(metas, list) else [metas]:  # one per scale of MultiScaleFlipAug3D
            meta.data.update(sample_idx=info["token"], sample_key=key, left_out=dict(sample.left_out))
        return results


def _without_eager_decoding(pipeline: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """Images are read by the step that transforms them, at the size it needs, where there is such a step."""
    if all(step["type"] != "RandomTransformImage" for step in pipeline):
        return list(pipeline)
    return [{**step, "type": _LAZY} if step["type"] == _EAGER else step for step in pipeline]


def _check_classes(classes: Sequence[str], pipeline: Sequence[Mapping[str, Any]]) -> None:
    known = NuScenesDataset.CLASSES
    wrong = sorted({name for name in classes if name not in known or list(classes).count(name) > 1})
    if wrong:
        raise ValueError(f"classes has unknown or repeated names: {', '.join(wrong)}; nuScenes has {', '.join(known)}.")
    steps = [*pipeline, *(inner for step in pipeline for inner in step.get("transforms", ()))]
    for step in steps:
        named = step.get("classes", step.get("class_names"))
        if named is not None and list(named) != list(classes):
            raise ValueError(
                f"{step['type']} has the classes {', '.join(named)}, the data set {', '.join(classes)}: labels are "
                "places in this list, so they must be the same, in the same order."
            )


def _check_training_infos(infos: Sequence[Mapping[str, Any]], ann_file: str) -> None:
    if not infos:
        raise ValueError(f"{ann_file} has no sample: run `racdino data prepare` again.")
    if "gt_boxes" not in infos[0]:
        raise ValueError(f"{ann_file} has no boxes, as for a test set: train on a train file, or set test_mode=True.")
