"""What every test shares: a test that needs a device says so, and is skipped with the reason where there is none."""

from __future__ import annotations

import pytest
import torch


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    devices = torch.cuda.device_count() if torch.cuda.is_available() else 0
    no_device = pytest.mark.skip(reason="needs a CUDA device; torch sees none here")
    no_second = pytest.mark.skip(reason="needs a second CUDA device")
    for item in items:
        if devices < 1 and "cuda" in item.keywords:
            item.add_marker(no_device)
        elif devices < 2 and "two_gpus" in item.keywords:
            item.add_marker(no_second)
