"""Batch norm and the ReLU after it, on a GPU without a pass over memory of the ReLU's own.

Of channels-last maps, torch's batch norm reaches a third of the memory's speed in training, and the ReLU reads and
writes everything once more, each way.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from racdino.ops.serving import has_hooks, served

_VECTORS = {torch.float32: 4, torch.float16: 8, torch.bfloat16: 8}  # a thread's channels, in batch_norm_act.h


def batch_norm_act(x: Tensor, norm: nn.BatchNorm2d, relu: bool) -> Tensor:
    """``norm(x)``, then a ReLU if wanted. The result may overwrite ``norm``'s, not ``x``.

    A GPU's kernels serve float32, float16 and bfloat16 maps, best in channels-last memory, with float32 parameters and
    running statistics; for everything else, and while torch compiles or traces, this is plain torch. Norms of other
    classes (SyncBatchNorm), and those that someone listens to, are called as they are. With the kernels it is
    differentiable once, bitwise reproducible, and sums are taken in float32 around a mean that costs no digits.

    Args:
        x: (B, C, H, W). norm: of C channels, looked at in every call; its running statistics are updated in training.

    Returns:
        (B, C, H, W); from the kernels in channels-last memory, in the dtype of ``x``.

    Raises:
        ValueError: ``norm`` is in training mode and there is one value per channel, as torch says it.
        RuntimeError: shapes or devices do not fit; the message names the argument and what it should be.
    """
    if not _has_kernel(x, norm):
        x = norm(x)
        return F.relu(x, inplace=True) if relu else x
    if norm.training and norm.num_batches_tracked is not None:
        norm.num_batches_tracked.add_(1)
    y: Tensor = _BatchNormAct.apply(
        x,
        norm.weight,
        norm.bias,
        norm.running_mean,
        norm.running_var,
        norm.training,
        norm.momentum,
        norm.eps,
        relu,
    )
    return y


def _has_kernel(x: Tensor, norm: nn.Module) -> bool:
    if not (served(x) and x.dim() == 4 and x.dtype in _VECTORS and _is_plain(norm)):
        return False
    channels, needed = x.shape[1], 2 if norm.training else 1  # values per channel
    return channels == norm.num_features and channels % _VECTORS[x.dtype] == 0 and x.numel() >= channels * needed


def _is_plain(norm: nn.Module) -> bool:
    if type(norm) is not nn.BatchNorm2d or norm.momentum is None or not norm.track_running_stats:
        return False
    if has_hooks(norm):
        return False
    numbers = (norm.weight, norm.bias, norm.running_mean, norm.running_var)
    return all(tensor is not None and tensor.dtype == torch.float32 for tensor in numbers)


class _BatchNormAct(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        weight: Tensor,
        bias: Tensor,
        running_mean: Tensor,
        running_var: Tensor,
        training: bool,
        momentum: float,
        eps: float,
        relu: bool,
    ) -> Tensor:
        y, mean, variance = torch.ops.racdino.batch_norm_act(
            x, weight, bias, running_mean, running_var, training, momentum, eps, relu
        )
        statistics = (mean, variance) if training else (running_mean, running_var)
        ctx.save_for_backward(x, weight, bias, *statistics)
        ctx.options = training, eps, relu
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        _, weight_wanted, bias_wanted, *_ = ctx.needs_input_grad
        grad_x, grad_weight, grad_bias = torch.ops.racdino.batch_norm_act_backward(
            grad, *ctx.saved_tensors, *ctx.options, weight_wanted or bias_wanted
        )
        of_weight, of_bias = grad_weight if weight_wanted else None, grad_bias if bias_wanted else None
        return grad_x, of_weight, of_bias, None, None, None, None, None, None
