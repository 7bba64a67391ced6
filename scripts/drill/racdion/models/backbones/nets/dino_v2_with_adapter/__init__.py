from .dino_v2_adapter import DinoAdapter

__all__ = ["DinoAdapter"]
