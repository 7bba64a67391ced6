from .dino_v2_with_adapter import DinoAdapter

__all__ = ["DinoAdapter"]
