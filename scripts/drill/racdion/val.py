"""python val.py --config configs/....py"""

import argparse

from mmcv import Config

import models  # noqa: F401


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--config", required=True)
    print(Config.fromfile(parser.parse_args().config).model.type)
