"""The baseline plus DINOv2 with its adapter, and nothing else: `python tools/verify_dinov2_config.py` proves it.

DinoAdapter runs beside the ResNet-50: the detector is to resize its four maps to the ResNet's stages and fuse them.
"""
# ruff: noqa: C408  (dict(...) calls are how the field writes configs)

_base_ = ["./racformer_r50_nuimg_704x256_f8.py"]

dinov2_adapter = dict(
    type="DinoAdapter",
    # DINOv2 ViT-B/14. The weights are looked up (see `racdino weights list`), never downloaded while a model is built.
    num_heads=12,
    embed_dim=768,
    depth=12,
    mlp_ratio=4,
    patch_size=14,
    pretrain_size=518,
    pretrained_vit=True,
    freeze_dino=True,
    # ViT-Adapter (arXiv:2205.08534)
    conv_inplane=64,
    n_points=4,
    deform_num_heads=6,
    deform_ratio=1.0,
    interaction_indexes=[[0, 2], [3, 5], [6, 8], [9, 11]],
    with_cffn=True,
    cffn_ratio=0.25,
    use_extra_extractor=True,
    add_vit_feature=False,
    with_cp=False,
)
model = dict(dinov2_adapter=dinov2_adapter)
