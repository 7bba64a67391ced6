from .frames import RandomFrames

__all__ = ["RandomFrames"]
