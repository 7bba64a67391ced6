from .attention import MemEffAttention
from .block import NestedTensorBlock
from .mlp import Mlp
from .patch_embed import PatchEmbed

__all__ = ["MemEffAttention", "Mlp", "NestedTensorBlock", "PatchEmbed"]
