"""On a GPU one operator interleaves rows, resizes and adds what float64 torch does step by step; and its gradients."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from racdino.ops import weave

# Of the largest number of the reference: half a step of the last digit, and in float32 the sum's own rounding.
TOLERANCES = {torch.float64: 1e-13, torch.float32: 5e-7, torch.float16: 2**-11, torch.bfloat16: 2**-8}
SIDES = [(1, 1), (1, 2), (2, 1), (5, 6), (6, 9), (7, 9), (8, 10), (67, 179)]


def arguments(B, H, W, C, dtype=torch.float32, device="cuda"):
    halves = (B, (H + 1) // 2, (W + 1) // 2 * 2, C)
    generator = torch.Generator().manual_seed(0)
    shapes = halves, halves, (B, H, W, C)
    return [torch.randn(shape, generator=generator).to(device, dtype).requires_grad_() for shape in shapes]


def step_by_step(upper, lower, added):
    doubled = torch.stack([upper, lower], dim=2).flatten(1, 2).permute(0, 3, 1, 2)
    resized = F.interpolate(doubled, added.shape[1:3], mode="bilinear", align_corners=False)
    return added + resized.permute(0, 2, 3, 1)


def results_of(operation, leaves, upstream):
    output = operation(*leaves)
    return [output, *torch.autograd.grad(output, leaves, upstream)]


@pytest.mark.cuda
@pytest.mark.parametrize("dtype", TOLERANCES)
@pytest.mark.parametrize(("H", "W"), SIDES)
@pytest.mark.parametrize(("B", "C"), [(1, 8), (3, 384), (1, 768)])
def test_map_and_gradients_are_those_of_torch_in_float64(dtype, H, W, B, C):
    torch.manual_seed(0)
    leaves = arguments(B, H, W, C, dtype)
    upstream = torch.randn_like(leaves[2])
    found = results_of(weave, leaves, upstream)
    expected = results_of(step_by_step, [x.detach().double().requires_grad_() for x in leaves], upstream.double())
    for mine, other in zip(found, expected, strict=True):
        assert mine.dtype == dtype
        assert (mine.double() - other).abs().max() <= TOLERANCES[dtype] * other.abs().max()


@pytest.mark.cuda
def test_two_runs_are_the_same_to_the_bit_whatever_the_strides():
    """The second run's tensors are not contiguous, or begin 2 bytes beside a multiple of 16."""
    leaves = arguments(2, 7, 9, 16, torch.bfloat16)
    upstream = torch.randn_like(leaves[2])
    shifted = [x.new_empty(x.numel() + 1)[1:].view_as(x).copy_(x).detach().requires_grad_() for x in leaves[:2]]
    turned = leaves[2].detach().permute(0, 3, 1, 2).contiguous().permute(0, 2, 3, 1).requires_grad_()
    first = results_of(weave, leaves, upstream)
    second = results_of(weave, [*shifted, turned], upstream.transpose(1, 2).contiguous().transpose(1, 2))
    for one, other in zip(first, second, strict=True):
        assert torch.equal(one, other)


@pytest.mark.cuda
def test_no_images_and_no_gradient_of_the_halves():
    assert weave(*arguments(0, 7, 9, 8)).shape == (0, 7, 9, 8)
    upper, lower, added = arguments(1, 7, 9, 8)
    weave(upper.detach(), lower.detach(), added).sum().backward()
    assert (added.grad == 1).all()


@pytest.mark.cuda
@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (
            lambda up, low, to: (up[:, 1:], low, to),
            r"upper is \[1, 3, 10, 8\] Float on cuda:0, expected \[1, 4, 10, 8\]",
        ),
        (
            lambda up, low, to: (up, low.half(), to),
            r"lower is \[1, 4, 10, 8\] Half on cuda:0, expected \[1, 4, 10, 8\]",
        ),
        (lambda up, low, to: (up, low, to[..., :6]), r"added is \[1, 7, 9, 6\] Float on cuda:0, expected"),
        (lambda up, low, to: (up, low, to.long()), r"added is \[1, 7, 9, 8\] Long on cuda:0, expected"),
    ],
)
def test_what_does_not_fit_is_one_sentence(change, sentence):
    with pytest.raises(RuntimeError, match="weave: " + sentence):
        weave(*change(*arguments(1, 7, 9, 8)))


@pytest.mark.parametrize(("H", "W"), SIDES)
def test_meta_tensors_give_the_shapes_and_gradients_theirs(H, W):
    """What torch.compile knows of the operator; the CUDA kernels give the same shapes (above)."""
    leaves = [x.detach().to("meta").requires_grad_() for x in arguments(2, H, W, 8, device="cpu")]
    woven = weave(*leaves)
    assert woven.shape == (2, H, W, 8)
    gradients = torch.autograd.grad(woven.sum(), leaves)
    assert [gradient.shape for gradient in gradients] == [leaf.shape for leaf in leaves]
