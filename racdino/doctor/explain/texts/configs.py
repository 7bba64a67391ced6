"""What configs, and tensors whose sizes follow from them, say."""

from __future__ import annotations

from racdino.doctor.explain.known import Known, Role

KNOWN = (
    Known(
        "RX701",
        (
            "Input image height … is not a multiple of patch height",
            "Input image width … is not a multiple of patch width",
        ),
        "DINOv2's patches are 14 pixels and the image's {0} is no multiple of them",
        "use RacDINO's DinoAdapter, which pads inside (256x704 to 266x714), or pad the images to a multiple of 14",
        "ViT-Adapter#108; dinov2#84",
        doctor="RD715",
    ),
    Known(
        "RX702",
        (
            "size mismatch for …patch_embed.proj.weight: copying a param with shape",
            "size mismatch for …pos_embed: copying a param with shape",
            "size mismatch for …cls_token: copying a param with shape",
        ),
        "the DINOv2 weights are of another size than the config's `embed_dim` and `num_heads`: S is 384 and 6, B 768 "
        "and "
        "12, L 1024 and 16",
        "`racdino weights fetch dinov2_vitb14` for embed_dim=768, dinov2_vits14 for 384, dinov2_vitl14 for 1024; "
        "`racdino doctor --only configs PATH` compares them",
        "racdino/backbones/dino_adapter.py",
        doctor="RD714",
    ),
    Known(
        "RX703",
        ("size mismatch for …: copying a param with shape",),
        "the checkpoint's {0} has another shape than the model's: it was trained with another config",
        "use the config that lies beside the checkpoint, or compare: `python tools/verify_dinov2_config.py CONFIG`",
        "the user's record 5",
    ),
    Known(
        "RX704",
        (
            "embed_dim must be divisible by num_heads",
            "embed_dims must be divisible by num_heads, but got …",
            "d_model must be divisible by n_heads, but got …",
            "does not divide by num_heads",
            "does not divide by deform_num_heads",
        ),
        "the number of attention heads does not divide the width",
        "set `num_heads` 6, 12, 16 for ViT-S, B, L, and `deform_num_heads` 6, 12, 16",
        "racdino/backbones/dino_adapter.py",
        doctor="RD713",
    ),
    Known(
        "RX705",
        ("Duplicate key is not allowed among bases. Duplicate keys: …",),
        "two files of the config's `_base_` list both set {0}",
        "keep the key in one of them",
        "mmcv/utils/config.py",
        doctor="RD702",
    ),
    Known(
        "RX706",
        ("in child config cannot inherit from base because …",),
        "the config gives a dict where its base has something else: {0}",
        "put `_delete_=True` into that dict, which replaces the base's value",
        "mmcv/utils/config.py",
        doctor="RD702",
    ),
    Known(
        "RX707",
        ('FileNotFoundError: file "….py" does not exist',),
        "there is no config {0}.py, seen from this folder, or its `_base_` names it wrongly",
        "run from the checkout's folder; `racdino doctor --only configs PATH` resolves every `_base_`",
        "mmcv/utils/path.py",
        doctor="RD702",
    ),
    Known(
        "RX708",
        ("FileNotFoundError: pretrain/… can not be found", "FileNotFoundError: ….pth can not be found"),
        "the weights that the config's `load_from` or `pretrained` names are not there: {0}",
        "`racdino weights fetch r50_nuimages --to pretrain` for the ResNet-50; `racdino weights list` shows all",
        "the user's record",
        doctor="RD801",
    ),
    Known(
        "RX709",
        ("mat1 and mat2 shapes cannot be multiplied (…)",),
        "a linear layer is given another width than it was built for ({0}), mostly DINOv2's 384 or 768 channels",
        "compare `embed_dim` with `in_channels` of the neck: `python tools/verify_dinov2_config.py CONFIG`",
        "torch/nn/modules/linear.py",
        doctor="RD721",
    ),
    Known(
        "RX710",
        ("expected input[…] to have … channels, but got",),
        "a convolution is given another number of channels than it was built for (input {0}), as when a config "
        "changes the "
        "radar encoder or the backbone and not what follows",
        "`python tools/verify_dinov2_config.py CONFIG` names every key that differs from the baseline",
        "the user's record 5",
        doctor="RD721",
    ),
    Known(
        "RX711",
        ("__init__() got an unexpected keyword argument '…'",),
        "the config gives a class the argument {0}, which it does not have",
        "`python tools/verify_dinov2_config.py CONFIG` names the keys that the baseline does not have; look for a "
        "typing "
        "error or a config of another version",
        "the user's record 5",
        within="registry.py",
    ),
    Known(
        "RX712",
        ('must contain the key "type", but got',),
        "a dict of the config that describes a module has no `type`, often since `_base_` is missing",
        "give it its `type`, or the config its `_base_`; `racdino doctor --only configs PATH`",
        "mmcv/utils/registry.py",
    ),
    Known(
        "RX713",
        ("SyncBatchNorm expected input tensor to be on GPU", "SyncBatchNorm is only supported with torch.nn"),
        "SyncBN works on GPUs only",
        "`norm_cfg=dict(type='BN')` on a CPU; `racdino train` needs no change",
        "torch/nn/modules/batchnorm.py",
        doctor="RD732",
    ),
    Known(
        "RX714",
        ("Expected more than 1 value per channel when training",),
        "batch norm is trained on a single value, with one sample on one GPU",
        "a `batch_size` of 2 or more, or leave that norm out of training",
        "torch/nn/functional.py",
    ),
    Known(
        "RX715",
        ("The model and loaded state dict do not match exactly",),
        "some weights of the checkpoint do not fit and were left out; with `load_from` of a backbone that is as it "
        "should be",
        "read the lists below that line: the backbone's own keys should not be among the missing ones",
        "mmcv/runner/checkpoint.py",
        role=Role.NOTE,
    ),
    Known(
        "RX716",
        ("Error(s) in loading state_dict for …:",),
        "a checkpoint does not fit {0} to the letter; the keys and shapes stand below that line",
        "use the config that lies beside the checkpoint; keys beginning with `module.` come from a wrapped model",
        "torch/nn/modules/module.py",
        role=Role.CONSEQUENCE,
    ),
)
