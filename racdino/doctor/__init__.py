"""Checks of the environment and of configs, each a small function that returns a Finding.

``setup_checks`` answers ``check_dinov2_setup.py``, ``config_checks`` answers ``tools/verify_dinov2_config.py``.
"""
