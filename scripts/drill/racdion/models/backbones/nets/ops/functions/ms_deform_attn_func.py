"""The compiled op under autograd, as every descendant of Deformable DETR has it."""

import MultiScaleDeformableAttention as MSDA
from torch.autograd import Function
from torch.autograd.function import once_differentiable


class MSDeformAttnFunction(Function):
    @staticmethod
    def forward(ctx, value, spatial_shapes, level_start_index, sampling_locations, attention_weights, im2col_step):
        ctx.im2col_step = im2col_step
        inputs = (value, spatial_shapes, level_start_index, sampling_locations, attention_weights)
        ctx.save_for_backward(*inputs)
        return MSDA.ms_deform_attn_forward(*inputs, im2col_step)

    @staticmethod
    @once_differentiable
    def backward(ctx, grad_output):
        gradients = MSDA.ms_deform_attn_backward(*ctx.saved_tensors, grad_output.contiguous(), ctx.im2col_step)
        value, locations, weights = gradients
        return value, None, None, locations, weights, None
