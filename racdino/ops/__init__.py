"""Multi-scale deformable attention: the compiled operator, its pure-torch reference and the module around it; the
places where the detector's queries look; and steps of the backbone that wait for memory, each in one pass over it."""

from __future__ import annotations

from racdino.ops import _library

_library.load()

from racdino.ops import _register  # noqa: E402, F401  (needs the loaded operator)
from racdino.ops._reference import ms_deform_attn_reference  # noqa: E402
from racdino.ops.add_layer_norm import add_layer_norm  # noqa: E402
from racdino.ops.batch_norm_act import batch_norm_act  # noqa: E402
from racdino.ops.depthwise_conv_gelu import depthwise_conv_gelu  # noqa: E402
from racdino.ops.modules import MSDeformAttn  # noqa: E402
from racdino.ops.ms_deform_attn import ms_deform_attn, ms_deform_attn_fused  # noqa: E402
from racdino.ops.ray_locations import Ray, ray_locations  # noqa: E402
from racdino.ops.weave import weave  # noqa: E402

__all__ = [
    "MSDeformAttn",
    "Ray",
    "add_layer_norm",
    "batch_norm_act",
    "depthwise_conv_gelu",
    "ms_deform_attn",
    "ms_deform_attn_fused",
    "ms_deform_attn_reference",
    "ray_locations",
    "weave",
]
