"""The demo: RaCFormer small enough for a CPU, with DinoAdapter as its only image backbone, on the synthetic data set.

`racdino train` without a config trains it. Every part is the full model's, with smaller numbers: two frames, 96x256
images, a ViT of four blocks, 64x64 BEV cells of 1.6 m, two decoder layers. Nothing in it is pretrained.
"""
# ruff: noqa: C408  (dict(...) calls are how the field writes configs)

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
pillar_size = [1.6, 1.6, 8]
bev_shape = (64, 64)

embed_dims = 64
num_frames = 2
num_levels = 4
num_layers = 2
num_clusters = 6
num_ray = 24
num_query = num_clusters * num_ray
code_weights = [2.0, 2.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0]

grid_config = dict(
    x=[-51.2, 51.2, 1.6],
    y=[-51.2, 51.2, 1.6],
    z=[-5, 3, 8],
    depth=[1.0, 65.0, 48.0],
    rcs=[-64, 64, 64],
)
ida_aug_conf = dict(
    H=450,
    W=800,
    final_dim=(96, 256),
    resize_lim=(0.32, 0.32),  # the same images every epoch: the demo shows that the model fits what it sees
    bot_pct_lim=(0.0, 0.0),
    rot_lim=(0.0, 0.0),
    rand_flip=False,
)
img_norm_cfg = dict(mean=[123.675, 116.28, 103.53], std=[58.395, 57.12, 57.375], to_rgb=True)

vit_dim = 48
model = dict(
    type="RaCFormer",
    data_aug=dict(img_color_aug=False, img_norm_cfg=img_norm_cfg, img_pad_cfg=dict(size_divisor=32)),
    use_grid_mask=False,
    stop_prev_grad=0,
    img_backbone=dict(
        type="DinoAdapter",
        num_heads=3,
        embed_dim=vit_dim,
        depth=4,
        mlp_ratio=4,
        patch_size=14,
        pretrain_size=112,
        pretrained_vit=False,
        freeze_dino=False,
        conv_inplane=16,
        n_points=4,
        deform_num_heads=6,
        deform_ratio=1.0,
        interaction_indexes=[[0, 0], [1, 1], [2, 2], [3, 3]],
        with_cffn=True,
        cffn_ratio=0.25,
        use_extra_extractor=False,
        add_vit_feature=True,
    ),
    img_neck=dict(type="FPN", in_channels=[vit_dim] * 4, out_channels=embed_dims, num_outs=num_levels),
    img_lss_neck=dict(
        type="CustomFPN",
        in_channels=[vit_dim] * 2,
        out_channels=embed_dims,
        num_outs=1,
        start_level=0,
        out_ids=[0],
    ),
    img_lss_view_transformer=dict(
        type="LSSViewTransformerBEVDepth_racformer",
        grid_config=grid_config,
        input_size=ida_aug_conf["final_dim"],
        in_channels=embed_dims,
        out_channels=embed_dims,
        depthnet_cfg=dict(use_dcn=False),
        downsample=16,
        loss_depth_weight=1.0,
    ),
    num_lss_fpn=2,
    dep_downsample=16,
    pre_process=None,
    radar_voxel_layer=dict(
        max_num_points=10,
        max_voxels=(30000, 40000),
        voxel_size=pillar_size,
        point_cloud_range=point_cloud_range,
        deterministic=True,
    ),
    radar_voxel_encoder=dict(
        type="PillarFeatureNet",
        in_channels=7,
        feat_channels=[64],
        with_distance=False,
        voxel_size=pillar_size,
        point_cloud_range=point_cloud_range,
        norm_cfg=dict(type="BN1d", eps=1e-3, momentum=0.01),
        legacy=False,
    ),
    radar_middle_encoder=dict(type="PointPillarsScatter", in_channels=64, output_shape=bev_shape),
    pts_bbox_head=dict(
        type="RaCFormer_head",
        num_classes=len(class_names),
        in_channels=embed_dims,
        num_query=num_query,
        num_clusters=num_clusters,
        query_denoising=True,
        query_denoising_groups=4,
        code_size=10,
        code_weights=code_weights,
        sync_cls_avg_factor=True,
        transformer=dict(
            type="RaCFormerTransformer",
            embed_dims=embed_dims,
            num_frames=num_frames,
            num_levels=num_levels,
            num_layers=num_layers,
            num_points=4,
            num_points_bev=4,
            img_depth_num=3,
            bev_depth_num=5,
            num_ray=num_ray,
            num_classes=len(class_names),
            code_size=10,
            pc_range=point_cloud_range,
            d_region_list=[0.08, 0.05],
            num_heads=4,
            bev_shape=bev_shape,
            with_cp=False,
        ),
        bbox_coder=dict(
            type="NMSFreeCoder",
            pc_range=point_cloud_range,
            post_center_range=[-61.2, -61.2, -10.0, 61.2, 61.2, 10.0],
            voxel_size=[0.2, 0.2, 8],
            max_num=100,
            score_threshold=0.02,
            num_classes=len(class_names),
        ),
        loss_cls=dict(type="FocalLoss", use_sigmoid=True, gamma=2.0, alpha=0.25, loss_weight=2.0),
        loss_bbox=dict(type="L1Loss", loss_weight=0.25),
        loss_iou=dict(type="GIoULoss", loss_weight=0.0),
    ),
    train_cfg=dict(
        pts=dict(
            grid_size=[64, 64, 1],
            voxel_size=[0.2, 0.2, 8],
            point_cloud_range=point_cloud_range,
            out_size_factor=4,
            assigner=dict(
                type="PolarHungarianAssigner3D",
                cls_cost=dict(type="FocalLossCost", weight=2.0),
                reg_cost=dict(type="BBox3DL1Cost", weight=0.25),
                theta_cost=dict(type="ThetaL1Cost", weight=3.0),
                iou_cost=dict(type="IoUCost", weight=0.0),
            ),
        )
    ),
)

# ---- data: `racdino data synthesize --root outputs/demo/data`, then `racdino data prepare` ---------------------------
dataset_type = "CustomNuScenesDataset_radar"
dataset_root = "outputs/demo/data/"
input_modality = dict(use_camera=True, use_radar=True, use_lidar=False, use_map=False, use_external=True)
meta_keys = ("filename", "ori_shape", "img_shape", "pad_shape", "lidar2img", "img_timestamp", "intrinsics")

load_images = dict(type="LoadMultiViewImageFromFiles", to_float32=False, color_type="color")
load_radar = dict(type="Loadnuradarpoints", coord_type="RADAR", num_sweeps=5)
load_lidar = dict(type="LoadPointsFromFile", coord_type="LIDAR", load_dim=5, use_dim=5)
lidar_depth = dict(type="PointToMultiViewDepth", downsample=1, grid_config=grid_config)
# test_mode: the past frame is the key frame before, in training too.
past_images = dict(type="LoadMultiViewImageFromMultiSweeps", sweeps_num=num_frames - 1, test_mode=True)
past_radar = dict(type="LoadradarpointsFromMultiSweeps", sweeps_num=num_frames - 1, num_aggr_sweeps=5, test_mode=True)
radar_maps = dict(type="RadarPointToMultiViewDepth", downsample=1, grid_config=grid_config)

train_pipeline = [
    load_images,
    past_images,
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
    past_radar,
    load_lidar,
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
    past_images,
    dict(type="RandomTransformImage", ida_aug_conf=ida_aug_conf, training=False),
    load_radar,
    past_radar,
    load_lidar,
    lidar_depth,
    dict(**radar_maps, test_mode=True),
    dict(
        type="MultiScaleFlipAug3D",
        img_scale=(800, 450),
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
train_infos = dataset_root + "nuscenes_infos_train_mini_sweep.pkl"
val_infos = dataset_root + "nuscenes_infos_val_mini_sweep.pkl"
data = dict(
    workers_per_gpu=2,
    train=dict(ann_file=train_infos, pipeline=train_pipeline, test_mode=False, use_valid_flag=True, **split),
    # What it was trained on: the demo proves that the whole chain learns, not that this toy generalises.
    val=dict(ann_file=train_infos, pipeline=test_pipeline, test_mode=True, **split),
    test=dict(ann_file=val_infos, pipeline=test_pipeline, test_mode=True, **split),
)

# ---- training --------------------------------------------------------------------------------------------------------
batch_size = 3
total_epochs = 36
optimizer = dict(type="AdamW", lr=1.5e-3, weight_decay=0.01)
optimizer_config = dict(grad_clip=dict(max_norm=35, norm_type=2))
lr_config = dict(policy="CosineAnnealing", warmup="linear", warmup_iters=50, warmup_ratio=1.0 / 3, min_lr_ratio=1e-2)
load_from = None
resume_from = None
checkpoint_config = dict(interval=6, max_keep_ckpts=2)
log_config = dict(
    interval=1,
    hooks=[
        dict(type="MyTextLoggerHook", interval=6, reset_flag=True),  # once an epoch
        dict(type="MyTensorboardLoggerHook", interval=6, reset_flag=True),
    ],
)
eval_config = dict(interval=18)
custom_hooks = []
debug = False

del pillar_size, bev_shape, code_weights, vit_dim, meta_keys, load_images, load_radar, load_lidar, lidar_depth
del past_images, past_radar, radar_maps, split
