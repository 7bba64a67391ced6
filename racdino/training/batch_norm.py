"""Batch normalisation over the batches of all processes, on CPU (gloo) and CUDA (nccl).

torch's SyncBatchNorm works on CUDA only. Statistics are merged by count (Chan et al. 1979, "Updating formulae and a
pairwise algorithm for computing sample variances"), so that processes may hold different numbers of values, radar
pillars for one, and the result is that of torch's own layer on all batches together, gradients included.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from racdino.training import processes


def reduce_batch_norm(module: nn.Module) -> nn.Module:
    """Replace each BatchNorm1d/2d/3d in ``module`` by its reduced kind, with the same parameters, buffers and names.

    Returns ``module``, or the replacement where it is a batch norm itself. In eval mode, and for a single process, the
    reduced kinds are torch's layers. Layers of other classes, subclasses too, stay.
    """
    for name, child in module.named_children():
        setattr(module, name, reduce_batch_norm(child))
    kind = _KINDS.get(type(module))
    if kind is None:
        return module
    reduced = kind.__new__(kind)
    reduced.__dict__ = module.__dict__
    return reduced


class _Reduced(nn.modules.batchnorm._BatchNorm):
    def forward(self, input: Tensor) -> Tensor:
        uses_batch = self.training or self.running_mean is None
        if not uses_batch or processes.count() == 1:
            return super().forward(input)
        self._check_input_dim(input)
        output, mean, variance, total = _Normalise.apply(input, self.weight, self.bias, self.eps)
        if self.training and self.running_mean is not None and self.running_var is not None:
            self._update(mean, variance, total)
        return output

    @torch.no_grad()
    def _update(self, mean: Tensor, variance: Tensor, total: Tensor) -> None:
        assert self.running_mean is not None
        assert self.running_var is not None
        assert self.num_batches_tracked is not None
        self.num_batches_tracked.add_(1)
        factor = 1 / int(self.num_batches_tracked) if self.momentum is None else self.momentum
        unbiased = variance * (total / (total - 1))
        self.running_mean.lerp_(mean.to(self.running_mean.dtype), factor)
        self.running_var.lerp_(unbiased.to(self.running_var.dtype), factor)


class ReducedBatchNorm1d(_Reduced, nn.BatchNorm1d):
    """BatchNorm1d over all processes."""


class ReducedBatchNorm2d(_Reduced, nn.BatchNorm2d):
    """BatchNorm2d over all processes."""


class ReducedBatchNorm3d(_Reduced, nn.BatchNorm3d):
    """BatchNorm3d over all processes."""


_KINDS: dict[type, type[_Reduced]] = {
    nn.BatchNorm1d: ReducedBatchNorm1d,
    nn.BatchNorm2d: ReducedBatchNorm2d,
    nn.BatchNorm3d: ReducedBatchNorm3d,
}


class _Normalise(torch.autograd.Function):
    """(N, C, *) to the same, normalised per channel over N, * and the processes."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: Tensor | None, bias: Tensor | None, eps: float
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        values, wide = _accurate(x), (-1, *[1] * (x.dim() - 2))  # (C,) to what broadcasts over x
        count = values.new_full((1,), x.numel() // x.shape[1])
        own_mean = _channel_sums(values) / count.clamp(min=1)
        own_squares = _channel_sums((values - own_mean.view(wide)).square())
        shares = _gather(torch.cat([count, own_mean, own_squares]))  # (processes, 1 + 2C)
        counts, means, squares = shares.split([1, len(own_mean), len(own_mean)], dim=1)
        total = counts.sum()
        if total <= 1:
            raise ValueError(f"batch norm needs more than one value per channel, got {int(total)} in all processes")
        mean = (counts * means).sum(0) / total
        variance = (squares.sum(0) + (counts * (means - mean).square()).sum(0)) / total
        scale = (variance + eps).rsqrt()
        normalised = (values - mean.view(wide)) * scale.view(wide)
        output = normalised if weight is None else normalised * weight.view(wide).to(values.dtype)
        output = output + (0 if bias is None else bias.view(wide).to(values.dtype))  # a tensor of its own
        ctx.save_for_backward(x, mean, scale, weight, total)  # and not what is normalised: x may be of 16 bits
        ctx.mark_non_differentiable(mean, variance, total)
        return output.to(x.dtype), mean, variance, total

    @staticmethod
    def backward(ctx: Any, gradient: Tensor, *_: Tensor) -> tuple[Tensor, Tensor | None, Tensor | None, None]:
        x, mean, scale, weight, total = ctx.saved_tensors
        wide = (-1, *[1] * (gradient.dim() - 2))
        normalised = (_accurate(x) - mean.view(wide)) * scale.view(wide)
        incoming = gradient.to(normalised.dtype)
        of_bias, of_weight = _channel_sums(incoming), _channel_sums(incoming * normalised)
        sums = torch.stack([of_bias, of_weight])
        if weight is not None:
            sums = sums * weight.to(sums.dtype)
            incoming = incoming * weight.view(wide).to(incoming.dtype)
        dist.all_reduce(sums)
        shared = (sums[0].view(wide) + normalised * sums[1].view(wide)) / total
        of_x = (scale.view(wide) * (incoming - shared)).to(gradient.dtype)
        if weight is None:
            return of_x, None, None, None
        return of_x, of_weight.to(weight.dtype), of_bias.to(weight.dtype), None


def _accurate(x: Tensor) -> Tensor:
    return x if x.dtype == torch.float64 else x.float()


def _channel_sums(x: Tensor) -> Tensor:
    """(N, C, *) to (C,)."""
    return x.sum(dim=[0, *range(2, x.dim())])


def _gather(share: Tensor) -> Tensor:
    shares = [torch.empty_like(share) for _ in range(processes.count())]
    dist.all_gather(shares, share)
    return torch.stack(shares)
