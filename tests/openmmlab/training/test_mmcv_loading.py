"""No way of mmcv's to load a file executes what the file says."""

from __future__ import annotations


def test_mmcvs_functions_and_the_runner_load_checkpoints_and_refuse_a_malicious_one(trainer):
    trainer.run_script("mmcv_loading.py")
