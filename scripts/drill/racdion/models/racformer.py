"""The image branch of the detector alone: ResNet stages and adapter maps, fused stage by stage."""

import torch
import torch.nn.functional as F
from mmdet.models.builder import BACKBONES, DETECTORS
from torch import nn


@DETECTORS.register_module()
class RaCFormer(nn.Module):
    """img (B, N, 3, H, W) -> a list of fused maps; heads, radar branch and losses are left out of this reconstruction."""

    def __init__(self, img_backbone, dinov2_adapter=None, **others):
        super().__init__()
        self.img_backbone = BACKBONES.build({**img_backbone, "with_cp": False})
        self.dinov2_adapter = BACKBONES.build(dinov2_adapter) if dinov2_adapter else None
        if self.dinov2_adapter is not None:
            channels = [256 * 2**stage for stage in img_backbone["out_indices"]]
            self.fuse = nn.ModuleList(nn.Conv2d(c + self.dinov2_adapter.embed_dim, c, 1) for c in channels)

    def extract_img_feat(self, img):
        img = img.flatten(0, 1)
        maps = self.img_backbone(img)
        if self.dinov2_adapter is None:
            return list(maps)
        enhanced, _ = self.dinov2_adapter(img)
        resized = [F.interpolate(e, m.shape[-2:], mode="bilinear", align_corners=False) for e, m in zip(enhanced, maps)]
        return [fuse(torch.cat(pair, 1)) for fuse, *pair in zip(self.fuse, maps, resized)]

    def forward(self, img):
        return self.extract_img_feat(img)
