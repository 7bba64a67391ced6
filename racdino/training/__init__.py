"""What a training run needs besides model and data, in plain torch: position, random state, checkpoints, averaging.

mmcv's runner is driven by `racdino.openmmlab.training`; nothing here imports mmcv.
"""
