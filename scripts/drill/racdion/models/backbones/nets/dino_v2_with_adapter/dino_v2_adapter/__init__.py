from .dinov2_adapter import DinoAdapter

__all__ = ["DinoAdapter"]
