"""RacDINO: radar-camera 3D detection with a DINOv2 backbone, and the pinned environment it trains in."""

__version__ = "0.1.0"
