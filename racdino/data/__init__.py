"""nuScenes as numpy: info files from the raw data set, and the readers of its files. No torch, no mmcv."""
