from .nets import DinoAdapter

__all__ = ["DinoAdapter"]
