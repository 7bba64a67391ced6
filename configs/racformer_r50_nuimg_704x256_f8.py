"""RaCFormer, ResNet-50 pretrained on nuImages, 704x256 images, 8 frames: the baseline.

A plain mmcv config: it imports nothing, so every tool can read it. Keys and type names are upstream's (CVPR 2025,
arXiv:2412.12725), because configs and checkpoints of the field refer to them. Metres, LiDAR frame (x right, y forward).
"""
# ruff: noqa: C408  (dict(...) calls are how the field writes configs)

# ---- what is detected, and where -------------------------------------------------------------------------------------
# The order is RaCFormer's: labels in its checkpoints depend on it, and it differs from SparseBEV's.
class_names = [
    "car",
    "truck",
    "trailer",
    "bus",
    "construction_vehicle",
    "bicycle",
    "motorcycle",
    "pedestrian",
    "traffic_cone",
    "barrier",
]
point_cloud_range = [-51.2, -51.2, -5.0, 51.2, 51.2, 3.0]
voxel_size = [0.2, 0.2, 8]  # only the box coder and the training grid read it
pillar_size = [0.8, 0.8, 8]  # one radar pillar = one BEV cell: 102.4 m / 0.8 m = 128 cells a side
bev_shape = (128, 128)

# ---- sizes -----------------------------------------------------------------------------------------------------------
embed_dims = 256
num_frames = 8  # the current frame and seven past ones
num_levels = 4  # image feature levels, strides 4 to 32
num_layers = 6  # decoder layers; they share one set of weights
num_points = 4
num_points_bev = 4
img_depth_num = 3  # samples along the ray in the image branch
bev_depth_num = 5  # samples along the ray in the two BEV branches
d_region_list = [0.08, 0.07, 0.06, 0.05, 0.04, 0.03]  # half width of the ray samples per layer, in units of 65 m
num_clusters = 6  # rings of queries
num_ray = 150  # queries on a ring
num_query = num_clusters * num_ray
numC_Trans = 256  # noqa: N816  (upstream's name)
code_size = 10  # theta, distance, z, log w, log l, log h, sin, cos, vx, vy
code_weights = [2.0, 2.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0]

grid_config = dict(
    x=[-51.2, 51.2, 0.8],
    y=[-51.2, 51.2, 0.8],
    z=[-5, 3, 8],
    depth=[1.0, 65.0, 96.0],  # near, far, bins: linearly increasing widths
    rcs=[-64, 64, 64],  # dBsm: low, high, bins
)
ida_aug_conf = dict(
    H=900,
    W=1600,
    final_dim=(256, 704),
    resize_lim=(0.38, 0.55),  # training; the test pipeline scales to the width: 704 / 1600 = 0.44
    bot_pct_lim=(0.0, 0.0),  # the bottom rows are kept, the sky is cropped
    rot_lim=(0.0, 0.0),
    rand_flip=True,
)
img_norm_cfg = dict(mean=[123.675, 116.28, 103.53], std=[58.395, 57.12, 57.375], to_rgb=True)

# ---- model -----------------------------------------------------------------------------------------------------------
img_backbone = dict(
    type="ResNet",
    depth=50,
    num_stages=4,
    out_indices=(0, 1, 2, 3),
    frozen_stages=1,
    norm_cfg=dict(type="BN2d", requires_grad=True),
    norm_eval=True,
    style="pytorch",
    with_cp=True,
)
img_neck = dict(
    type="FPN",
    in_channels=[256, 512, 1024, 2048],
    out_channels=embed_dims,
    num_outs=num_levels,
)
img_lss_neck = dict(  # one map at stride 16 out of C4 and C5, for the view transformer
    type="CustomFPN",
    in_channels=[1024, 2048],
    out_channels=embed_dims,
    num_outs=1,
    start_level=0,
    out_ids=[0],
)
img_lss_view_transformer = dict(
    type="LSSViewTransformerBEVDepth_racformer",
    grid_config=grid_config,
    input_size=ida_aug_conf["final_dim"],
    in_channels=embed_dims,
    out_channels=numC_Trans,
    depthnet_cfg=dict(use_dcn=False),
    downsample=16,
    loss_depth_weight=2.0,  # SequentialControlHook below sets it to 1.0
)
radar_voxel_layer = dict(
    max_num_points=10,
    max_voxels=(30000, 40000),  # training, testing
    voxel_size=pillar_size,
    point_cloud_range=point_cloud_range,
    deterministic=False,
)
# point_cloud_range is left out on purpose, as upstream does: mmdet3d's default shifts the pillar-centre offsets by a
# constant that the released weights have absorbed.
radar_voxel_encoder = dict(
    type="PillarFeatureNet",
    in_channels=7,  # x, y, z, RCS, compensated vx, vy, time lag
    feat_channels=[64],
    with_distance=False,
    voxel_size=pillar_size,
    norm_cfg=dict(type="BN1d", eps=1e-3, momentum=0.01),
    legacy=False,
)
radar_middle_encoder = dict(type="PointPillarsScatter", in_channels=64, output_shape=bev_shape)

transformer = dict(
    type="RaCFormerTransformer",
    embed_dims=embed_dims,
    num_frames=num_frames,
    num_levels=num_levels,
    num_layers=num_layers,
    num_points=num_points,
    num_points_bev=num_points_bev,
    img_depth_num=img_depth_num,
    bev_depth_num=bev_depth_num,
    num_ray=num_ray,
    num_classes=len(class_names),
    code_size=code_size,
    pc_range=point_cloud_range,
    d_region_list=d_region_list,
)
bbox_coder = dict(
    type="NMSFreeCoder",
    pc_range=point_cloud_range,
    post_center_range=[-61.2, -61.2, -10.0, 61.2, 61.2, 10.0],
    voxel_size=voxel_size,
    max_num=300,
    score_threshold=0.05,
    num_classes=len(class_names),
)
pts_bbox_head = dict(
    type="RaCFormer_head",
    num_classes=len(class_names),
    in_channels=embed_dims,
    num_query=num_query,
    num_clusters=num_clusters,
    query_denoising=True,
    query_denoising_groups=10,
    code_size=code_size,
    code_weights=code_weights,
    sync_cls_avg_factor=True,
    transformer=transformer,
    bbox_coder=bbox_coder,
    # Read by the DETR head's constructor, without parameters, and never called: queries carry their own position.
    positional_encoding=dict(type="SinePositionalEncoding", num_feats=embed_dims // 2, normalize=True, offset=-0.5),
    loss_cls=dict(type="FocalLoss", use_sigmoid=True, gamma=2.0, alpha=0.25, loss_weight=2.0),
    loss_bbox=dict(type="L1Loss", loss_weight=0.25),
    loss_iou=dict(type="GIoULoss", loss_weight=0.0),
)
pre_process = None  # no BEV network before the decoder
assigner = dict(
    type="PolarHungarianAssigner3D",
    cls_cost=dict(type="FocalLossCost", weight=2.0),
    reg_cost=dict(type="BBox3DL1Cost", weight=0.25),
    theta_cost=dict(type="ThetaL1Cost", weight=3.0),
    iou_cost=dict(type="IoUCost", weight=0.0),
)
model = dict(
    type="RaCFormer",
    data_aug=dict(  # on the GPU, inside the detector
        img_color_aug=True,
        img_norm_cfg=img_norm_cfg,
        img_pad_cfg=dict(size_divisor=32),
    ),
    stop_prev_grad=0,
    img_backbone=img_backbone,
    img_neck=img_neck,
    img_lss_neck=img_lss_neck,
    img_lss_view_transformer=img_lss_view_transformer,
    num_lss_fpn=2,
    dep_downsample=16,
    pre_process=pre_process,
    radar_voxel_layer=radar_voxel_layer,
    radar_voxel_encoder=radar_voxel_encoder,
    radar_middle_encoder=radar_middle_encoder,
    pts_bbox_head=pts_bbox_head,
    train_cfg=dict(
        pts=dict(
            grid_size=[512, 512, 1],
            voxel_size=voxel_size,
            point_cloud_range=point_cloud_range,
            out_size_factor=4,
            assigner=assigner,
        )
    ),
)

# ---- data ------------------------------------------------------------------------------------------------------------
dataset_type = "CustomNuScenesDataset_radar"
dataset_root = "data/nuscenes/"
file_client_args = dict(backend="disk")
input_modality = dict(
    use_camera=True,
    use_radar=True,
    use_lidar=False,  # LiDAR supervises the depth map only; no part of the model reads it
    use_map=False,
    use_external=True,
)
meta_keys = ("filename", "ori_shape", "img_shape", "pad_shape", "lidar2img", "img_timestamp", "intrinsics")

load_images = dict(type="LoadMultiViewImageFromFiles", to_float32=False, color_type="color")
load_radar = dict(type="Loadnuradarpoints", coord_type="RADAR", num_sweeps=5, file_client_args=file_client_args)
load_lidar = dict(
    type="LoadPointsFromFile", coord_type="LIDAR", load_dim=5, use_dim=5, file_client_args=file_client_args
)
lidar_depth = dict(type="PointToMultiViewDepth", downsample=1, grid_config=grid_config)

train_pipeline = [
    load_images,
    dict(type="LoadMultiViewImageFromMultiSweeps", sweeps_num=num_frames - 1),
    dict(
        type="LoadAnnotations3D",
        with_bbox_3d=True,
        with_label_3d=True,
        with_attr_label=False,
        with_label=False,
        with_bbox_depth=False,
    ),
    dict(type="ObjectRangeFilter", point_cloud_range=point_cloud_range),
    dict(type="ObjectNameFilter", classes=class_names),
    dict(type="RandomTransformImage", ida_aug_conf=ida_aug_conf, training=True),
    load_radar,
    dict(type="LoadradarpointsFromMultiSweeps", sweeps_num=num_frames - 1, num_aggr_sweeps=5, test_mode=False),
    load_lidar,
    dict(type="RaCGlobalRotScaleTransImage", rot_range=[-0.3925, 0.3925], scale_ratio_range=[0.95, 1.05]),
    lidar_depth,
    dict(type="RadarPointToMultiViewDepth", downsample=1, grid_config=grid_config, test_mode=False),
    dict(type="RaCFormatBundle3D", class_names=class_names),
    dict(
        type="Collect3D",
        keys=["gt_bboxes_3d", "gt_labels_3d", "img", "gt_depth", "radar_depth", "radar_rcs", "radar_points"],
        meta_keys=meta_keys,
    ),
]
test_pipeline = [
    load_images,
    dict(type="LoadMultiViewImageFromMultiSweeps", sweeps_num=num_frames - 1, test_mode=True),
    dict(type="RandomTransformImage", ida_aug_conf=ida_aug_conf, training=False),
    load_radar,
    dict(type="LoadradarpointsFromMultiSweeps", sweeps_num=num_frames - 1, num_aggr_sweeps=5, test_mode=True),
    load_lidar,
    lidar_depth,
    dict(type="RadarPointToMultiViewDepth", downsample=1, grid_config=grid_config, test_mode=True),
    dict(
        type="MultiScaleFlipAug3D",  # mmdet3d's wrapper; one scale, no flip
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

split = dict(
    type=dataset_type,
    data_root=dataset_root,
    classes=class_names,
    modality=input_modality,
    box_type_3d="LiDAR",
)
data = dict(
    workers_per_gpu=4,
    train=dict(
        ann_file=dataset_root + "nuscenes_infos_train_sweep.pkl",
        pipeline=train_pipeline,
        test_mode=False,
        use_valid_flag=True,  # boxes without a LiDAR or radar point are not trained on; no class balancing
        **split,
    ),
    val=dict(ann_file=dataset_root + "nuscenes_infos_val_sweep.pkl", pipeline=test_pipeline, test_mode=True, **split),
    test=dict(ann_file=dataset_root + "nuscenes_infos_test_sweep.pkl", pipeline=test_pipeline, test_mode=True, **split),
)

# ---- training --------------------------------------------------------------------------------------------------------
batch_size = 2  # per GPU; the learning rate belongs to 8 GPUs, 16 samples in all
total_epochs = 36
optimizer = dict(
    type="AdamW",
    lr=4e-4,
    weight_decay=0.01,
    # Matched as substrings of parameter names: "sampling_offset" also covers MSDeformAttn's "sampling_offsets".
    paramwise_cfg=dict(custom_keys=dict(img_backbone=dict(lr_mult=0.1), sampling_offset=dict(lr_mult=0.1))),
)
optimizer_config = dict(type="Fp16OptimizerHook", loss_scale=512.0, grad_clip=dict(max_norm=35, norm_type=2))
lr_config = dict(policy="CosineAnnealing", warmup="linear", warmup_iters=500, warmup_ratio=1.0 / 3, min_lr_ratio=1e-3)

# Loaded whole with the key prefix rewritten; the FPN of the checkpoint keeps its own name and is not transferred.
load_from = "pretrain/cascade_mask_rcnn_r50_fpn_coco-20e_20e_nuim_20201009_124951-40963960.pth"
revise_keys = [("backbone", "img_backbone")]
resume_from = None

checkpoint_config = dict(interval=1, max_keep_ckpts=4)
default_hooks = dict(checkpoint=None)  # checkpoint_config alone decides
log_config = dict(
    interval=1,
    hooks=[
        dict(type="MyTextLoggerHook", interval=50, reset_flag=True),
        dict(type="MyTensorboardLoggerHook", interval=500, reset_flag=True),
    ],
)
eval_config = dict(interval=2)
custom_hooks = [dict(type="SequentialControlHook", start_epoch=18)]
debug = False

# Names that only build the sections above; without them the keys of this config are upstream's.
del pillar_size, bev_shape, code_size, code_weights, radar_voxel_layer, radar_voxel_encoder, radar_middle_encoder
del transformer, bbox_coder, pts_bbox_head, assigner, meta_keys, load_images, load_radar, load_lidar, lidar_depth, split
