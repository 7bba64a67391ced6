"""The baseline with upstream's behaviour wherever ours differs: for checkpoints that were trained with upstream's code.

Each flag is described where it is read. The defaults of all of them are what the baseline config has.
"""
# ruff: noqa: C408  (dict(...) calls are how the field writes configs)

_base_ = ["./racformer_r50_nuimg_704x256_f8.py"]

model = dict(
    legacy_radar_layout=True,
    img_lss_view_transformer=dict(legacy_rcs_background=True),
    pts_bbox_head=dict(transformer=dict(legacy_bev_batch_mixing=True, legacy_temporal_order=True)),
)

# mmcv merges dictionaries, not lists: the pipelines are written out, the baseline's but for the flags.
ida_aug_conf = {{_base_.ida_aug_conf}}
grid_config = {{_base_.grid_config}}
class_names = {{_base_.class_names}}
files = dict(backend="disk")
past = dict(sweeps_num=7)  # num_frames - 1
load_images = dict(type="LoadMultiViewImageFromFiles", to_float32=False, color_type="color")
load_radar = dict(
    type="Loadnuradarpoints", coord_type="RADAR", num_sweeps=5, file_client_args=files, legacy_radar_velocity=True
)
past_radar = dict(
    type="LoadradarpointsFromMultiSweeps",
    num_aggr_sweeps=5,
    legacy_independent_intervals=True,
    legacy_radar_history=True,
    legacy_radar_velocity=True,
    **past,
)
load_lidar = dict(type="LoadPointsFromFile", coord_type="LIDAR", load_dim=5, use_dim=5, file_client_args=files)
lidar_depth = dict(type="PointToMultiViewDepth", downsample=1, grid_config=grid_config)
radar_maps = dict(type="RadarPointToMultiViewDepth", downsample=1, grid_config=grid_config)
meta_keys = ("filename", "ori_shape", "img_shape", "pad_shape", "lidar2img", "img_timestamp", "intrinsics")

train_pipeline = [
    load_images,
    dict(type="LoadMultiViewImageFromMultiSweeps", **past),
    dict(
        type="LoadAnnotations3D",
        with_bbox_3d=True,
        with_label_3d=True,
        with_attr_label=False,
        with_label=False,
        with_bbox_depth=False,
    ),
    dict(type="ObjectRangeFilter", point_cloud_range={{_base_.point_cloud_range}}),
    dict(type="ObjectNameFilter", classes=class_names),
    dict(type="RandomTransformImage", ida_aug_conf=ida_aug_conf, training=True, legacy_decode=True),
    load_radar,
    dict(**past_radar, test_mode=False),
    load_lidar,
    dict(
        type="RaCGlobalRotScaleTransImage",
        rot_range=[-0.3925, 0.3925],
        scale_ratio_range=[0.95, 1.05],
        legacy_radar_velocity=True,
    ),
    lidar_depth,
    dict(**radar_maps, test_mode=False),
    dict(type="RaCFormatBundle3D", class_names=class_names),
    dict(
        type="Collect3D",
        keys=["gt_bboxes_3d", "gt_labels_3d", "img", "gt_depth", "radar_depth", "radar_rcs", "radar_points"],
        meta_keys=meta_keys,
    ),
]
test_pipeline = [
    load_images,
    dict(type="LoadMultiViewImageFromMultiSweeps", test_mode=True, **past),
    dict(type="RandomTransformImage", ida_aug_conf=ida_aug_conf, training=False, legacy_decode=True),
    load_radar,
    dict(**past_radar, test_mode=True),
    load_lidar,
    lidar_depth,
    dict(**radar_maps, test_mode=True),
    dict(
        type="MultiScaleFlipAug3D",
        img_scale=(1600, 900),
        pts_scale_ratio=1,
        flip=False,
        transforms=[
            dict(type="RaCFormatBundle3D", class_names=class_names, with_label=False),
            dict(
                type="Collect3D",
                keys=["img", "gt_depth", "radar_points", "radar_depth", "radar_rcs"],
                meta_keys=(meta_keys[0], "box_type_3d", *meta_keys[1:]),
            ),
        ],
    ),
]
data = dict(train=dict(pipeline=train_pipeline), val=dict(pipeline=test_pipeline), test=dict(pipeline=test_pipeline))

del files, past, load_images, load_radar, past_radar, load_lidar, lidar_depth, radar_maps, meta_keys
