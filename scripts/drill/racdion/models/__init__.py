from .backbones import DinoAdapter
from .racformer import RaCFormer

__all__ = ["DinoAdapter", "RaCFormer"]
