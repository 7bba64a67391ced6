"""A loss and a gradient norm that every machine reproduces, from parameters and inputs bit-equal everywhere.

The numbers come from numpy's ``RandomState`` (its stream is frozen, NEP 19), not from a frame, a file or torch's
generator. The model is DinoAdapter on a ViT-S trunk, float32, eval mode; the loss is the sum over its five maps of the
mean square, and the gradient norm runs over all parameters but the unused final norm.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from racdino.backbones import DinoAdapter
from racdino.verify.errors import VerifyError

SEED = 0
IMAGE = (2, 3, 100, 150)  # a multiple of neither 14 nor 32: padding and cropping take part
# Float64 differs from float32 by 4e-7; thread count, attention back end, instruction set and oneDNN off by 1e-7 (torch
# 2.0 on an AMD EPYC); an H200 with torch 2.11 by 4e-7. The rest is room for other GPUs; a wrong kernel is off by more.
TOLERANCE = 1e-5


@dataclass(frozen=True)
class Fingerprint:
    """``maps``: the mean square of f1, f2, f3, f4 and the ViT map; their sum is the loss."""

    loss: float
    gradient_norm: float
    maps: tuple[float, ...]
    tolerance: float = TOLERANCE

    def deviation(self, other: Fingerprint) -> float:
        """The largest relative difference among loss, gradient norm and maps."""
        pairs = zip(
            (self.loss, self.gradient_norm, *self.maps), (other.loss, other.gradient_norm, *other.maps), strict=True
        )
        return max(abs(a - b) / max(abs(b), 1e-30) for a, b in pairs)

    def as_json(self) -> dict[str, Any]:
        return asdict(self)


def compute(device: torch.device, dtype: torch.dtype = torch.float32) -> Fingerprint:
    """The fingerprint of this machine; ``dtype`` is float64 only to find out what float32 rounds away."""
    adapter = DinoAdapter(num_heads=6, embed_dim=384, pretrained_vit=False, freeze_dino=False)
    _fill(adapter)
    images = torch.from_numpy(_uniform("images", IMAGE) * 2)
    adapter = adapter.to(device, dtype).eval()
    with _full_precision():
        maps, vit_map = adapter(images.to(device, dtype))
        squares = [x.square().mean() for x in (*maps, vit_map)]
        torch.stack(squares).sum().backward()
    gradients = [p.grad.double().norm() for p in adapter.parameters() if p.grad is not None]
    values = [float(x.detach()) for x in squares]
    return Fingerprint(sum(values), float(torch.stack(gradients).norm()), tuple(values))


def read(report: Path) -> Fingerprint:
    """The fingerprint in another machine's ``report.json``.

    Raises:
        VerifyError: there is no such file, or it holds no fingerprint.
    """
    try:
        stored: Mapping[str, Any] = json.loads(report.read_text(encoding="utf-8"))["fingerprint"]
        return Fingerprint(
            float(stored["loss"]),
            float(stored["gradient_norm"]),
            tuple(float(x) for x in stored["maps"]),
            float(stored["tolerance"]),
        )
    except OSError as error:
        raise VerifyError(f"--compare {report} cannot be read: {error.strerror}.") from error
    except (ValueError, KeyError, TypeError) as error:
        raise VerifyError(
            f"--compare {report} is no report.json of `racdino verify` with a fingerprint: {error!r}."
        ) from error


def _fill(module: nn.Module) -> None:
    """Uniform values that keep activations near 1: weights by fan-in, scales around 1, everything else small."""
    with torch.no_grad():
        for name, parameter in module.named_parameters():
            numbers = _uniform(name, tuple(parameter.shape))
            if parameter.ndim > 1 and name not in {"pos_embed", "cls_token", "level_embed"}:
                numbers *= (parameter[0].numel() / 3) ** -0.5
            elif name.endswith(("gamma", "weight")):
                numbers = 1 + 0.5 * numbers
            else:
                numbers *= 0.1
            parameter.copy_(torch.from_numpy(numbers))


def _uniform(name: str, shape: tuple[int, ...]) -> np.ndarray:
    """Uniform in [-1, 1), the same for the same name on every machine."""
    return np.random.RandomState([SEED, zlib.crc32(name.encode())]).random_sample(shape) * 2 - 1


class _full_precision:  # noqa: N801  (reads as torch.no_grad does)
    """No TensorFloat-32 inside: it keeps 10 bits, and the fingerprint needs 23."""

    def __enter__(self) -> None:
        self.before = torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32
        torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = False

    def __exit__(self, *_: object) -> None:
        torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32 = self.before
