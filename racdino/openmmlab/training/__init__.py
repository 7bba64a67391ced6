"""``racdino train CONFIG``: mmcv's runner and hooks around `racdino.training`."""
