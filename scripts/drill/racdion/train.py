"""python train.py --config configs/....py [--steps N] [--cfg-options key=value ...]"""

import argparse

import torch
from mmcv import Config, DictAction
from mmdet.models.builder import DETECTORS

import loaders
import models  # noqa: F401  (registers the detector and the adapter)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--config", required=True)
    parser.add_argument("--steps", type=int, default=1)
    parser.add_argument("--size", type=int, nargs=2, default=(256, 704))
    parser.add_argument("--cfg-options", nargs="+", action=DictAction, default={})
    options = parser.parse_args()
    config = Config.fromfile(options.config)
    config.merge_from_dict(options.cfg_options)
    torch.manual_seed(0)
    detector = DETECTORS.build({**config.model, "dinov2_adapter": config.get("dinov2_adapter")})
    trained = [p for p in detector.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=config.optimizer.lr)
    frames = torch.utils.data.DataLoader(loaders.RandomFrames(tuple(options.size), cameras=1))
    for step, img in zip(range(options.steps), frames):
        loss = sum(m.pow(2).mean() for m in detector(img))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        print(f"step {step + 1}: loss {loss.item():.4f}")


if __name__ == "__main__":
    main()
