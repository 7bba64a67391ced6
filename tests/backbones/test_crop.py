"""A cropped map is what slicing gives, in the memory format asked for; its gradient is channels-last with zeros."""

from __future__ import annotations

import pytest
import torch

from racdino.backbones.crop import crop

GPU = pytest.param("cuda", marks=pytest.mark.cuda)
FORMATS = [torch.contiguous_format, torch.channels_last]
# Tiles of the kernel have 256 pixels and 64 or 32 channels: less, just as much, more.
SHAPES = [
    ((1, 8, 1, 1), (1, 1)),
    ((2, 64, 16, 16), (16, 16)),
    ((3, 40, 9, 35), (8, 33)),
    ((1, 200, 17, 45), (16, 44)),
    ((2, 5, 6, 7), (5, 7)),
]


def map_of(shape, device, dtype, seed=0):
    x = torch.randn(shape, generator=torch.Generator().manual_seed(seed))
    return x.to(device, dtype).to(memory_format=torch.channels_last)


@pytest.mark.parametrize("device", ["cpu", GPU])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32, torch.float64])
@pytest.mark.parametrize("memory_format", FORMATS)
@pytest.mark.parametrize("upstream_format", FORMATS)
@pytest.mark.parametrize(("shape", "size"), SHAPES)
def test_equals_slicing_to_the_bit(device, dtype, memory_format, upstream_format, shape, size):
    x = map_of(shape, device, dtype).requires_grad_()
    sliced = x[:, :, : size[0], : size[1]]
    found = crop(x, *size, memory_format)
    assert torch.equal(found, sliced)
    assert found.is_contiguous(memory_format=memory_format)
    upstream = torch.randn_like(found).contiguous(memory_format=upstream_format)
    gradients = [torch.autograd.grad(output, x, upstream)[0] for output in (found, sliced)]
    assert torch.equal(*gradients)
    assert gradients[0].is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize("device", ["cpu", GPU])
@pytest.mark.parametrize("start", [0, 1])
def test_maps_that_are_part_of_longer_tokens(device, start):
    """As the transformer's last map, behind its prefix tokens; from a multiple of 16 bytes, and 2 bytes beside it."""
    numbers = torch.randn(start + 2 * 31 * 24, device=device, dtype=torch.bfloat16)
    tokens = numbers[start:].view(2, 31, 24)
    x = tokens[:, 1:].unflatten(1, (5, 6)).permute(0, 3, 1, 2)
    assert torch.equal(crop(x, 4, 5, torch.contiguous_format), x[:, :, :4, :5])


@pytest.mark.cuda
def test_what_does_not_fit_is_one_sentence():
    x = map_of((1, 8, 4, 5), "cuda", torch.float32)
    operator = torch.ops.racdino.crop
    with pytest.raises(RuntimeError, match="crop: expected the upper left part of 4x5 pixels, not 4x6"):
        operator(x, 4, 6)
    with pytest.raises(RuntimeError, match=r"crop: the map is \[1, 6, 4, 5\] Float, expected \(B, C, H, W\) with"):
        operator(x[:, :6], 4, 5)
    with pytest.raises(RuntimeError, match=r"crop: the map is \[1, 8, 4, 5\] Double, expected \(B, C, H, W\) with"):
        operator(x.double(), 4, 5)


def test_meta_tensors_give_the_shapes_and_strides():
    """What torch.compile knows of the operator; the CUDA kernels give the same (above)."""
    x = map_of((2, 8, 5, 7), "cpu", torch.float32).to("meta")
    part = torch.ops.racdino.crop(x, 4, 6)
    assert part.shape == (2, 8, 4, 6)
    assert part.is_contiguous()
    whole = torch.ops.racdino.crop_backward(part, 5, 7)
    assert whole.shape == x.shape
    assert whole.is_contiguous(memory_format=torch.channels_last)
