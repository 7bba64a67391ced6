"""RaCFormer in plain torch: radar-camera 3D detection, with and without DINOv2, on torch 2.0 to the newest.

Source: Chu et al. 2025, RaCFormer, arXiv:2412.12725. mmcv is not needed: `build` makes the detector from a config's ``model``.
"""
