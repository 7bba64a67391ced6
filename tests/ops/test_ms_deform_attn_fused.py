"""The fused operator equals softmax, locations and sampling one after the other, and is as much at home in torch."""

from __future__ import annotations

import itertools
from typing import NamedTuple

import pytest
import torch
from torch import Tensor

from racdino.ops import ms_deform_attn_fused, ms_deform_attn_reference

OP = torch.ops.racdino.ms_deform_attn_fused.default
BACKWARD = torch.ops.racdino.ms_deform_attn_fused_backward.default
LEVELS = ((6, 5), (3, 4), (1, 2), (2, 1), (5, 7))
# Relative error in the 2-norm that storing in this type must cost at most; the sums themselves are float32 or better.
BOUND = {torch.float64: 1e-12, torch.float32: 1e-5, torch.float16: 5e-4, torch.bfloat16: 4e-3}

needs_opcheck = pytest.mark.skipif(
    not hasattr(torch.library, "opcheck"),
    reason=f"torch.library.opcheck came with torch 2.4; this is {torch.__version__}",
)


class Fused(NamedTuple):
    """The operator's tensors, in its argument order."""

    value: Tensor
    spatial_shapes: Tensor
    level_start_index: Tensor
    reference_points: Tensor
    sampling_offsets: Tensor
    attention_logits: Tensor


def make(
    device: torch.device | str = "cpu",
    dtype: torch.dtype = torch.float64,
    *,
    batch: int = 2,
    queries: int = 5,
    heads: int = 3,
    channels: int = 8,
    levels: int = 2,
    points: int = 3,
    boxes: bool = False,
    stored: torch.dtype | None = None,
    requires_grad: bool = False,
) -> Fused:
    """Random inputs whose samples lie well inside a bilinear cell; some reach over the border, one in eight far out.

    Offsets hold few bits, so that float16 and bfloat16 store them exactly.
    """
    generator = torch.Generator().manual_seed(0)
    shapes = torch.tensor(LEVELS[:levels])
    starts = torch.cat([shapes.new_zeros(1), shapes.prod(1).cumsum(0)[:-1]])
    size = shapes.flip(1)[:, None]  # (L, 1, 2) as (W, H)
    lead = (batch, queries, heads, levels, points)
    reference = (torch.rand(batch, queries, levels, 2, generator=generator) * size.squeeze(1)).floor() + 0.5
    offsets = torch.randint(-6, 6, (*lead, 2), generator=generator) * 0.25 + 0.125
    far = torch.rand(*lead, 1, generator=generator) < 1 / 8
    offsets = torch.where(far, offsets.sign() * 32 + offsets, offsets)  # 32 pixels are out of every level
    reference = reference / size.squeeze(1)
    if boxes:  # half the box over the number of points is one pixel: the same samples
        box = (2 * points / size.squeeze(1)).expand(batch, queries, levels, 2)
        reference = torch.cat([reference, box], -1)
    value = torch.randn(batch, int(shapes.prod(1).sum()), heads, channels, generator=generator)
    logits = torch.randint(-16, 16, lead, generator=generator) / 8
    exact = torch.float64 if dtype == torch.float64 else torch.float32
    tensors = (
        value.to(device, dtype),
        reference.to(device, exact),
        offsets.to(device, stored or exact),
        logits.to(device, stored or exact),
    )
    for tensor in tensors:
        tensor.requires_grad_(requires_grad)
    return Fused(tensors[0], shapes.to(device), starts.to(device), *tensors[1:])


def one_after_the_other(value, shapes, starts, reference, offsets, logits):
    """Softmax, locations as Deformable DETR writes them, and the pure-torch reference."""
    weights = logits.flatten(3).softmax(-1).view(offsets.shape[:-1])
    reference = reference[:, :, None, :, None]
    if reference.shape[-1] == 2:
        locations = reference + offsets / shapes.flip(1)[:, None]
    else:
        locations = reference[..., :2] + offsets / offsets.shape[4] * reference[..., 2:] * 0.5
    return ms_deform_attn_reference(value, shapes, starts, locations, weights)


def run(function, inputs, grad_output=None):
    """Output and the four gradients."""
    value, shapes, starts, *others = inputs
    leaves = [tensor.detach().requires_grad_() for tensor in (value, *others)]
    output = function(leaves[0], shapes, starts, *leaves[1:])
    grad_output = torch.linspace(-1, 1, output.numel(), device=output.device) if grad_output is None else grad_output
    return output.detach(), *torch.autograd.grad(output, leaves, grad_output.view(output.shape).to(output.dtype))


def in_float64(inputs):
    return [tensor.double() if tensor.is_floating_point() else tensor for tensor in inputs]


def relative_error(actual, expected):
    return float((actual.double() - expected.double()).norm() / expected.double().norm())


def assert_equals_the_parts(inputs):
    for actual, expected in zip(run(ms_deform_attn_fused, inputs), run(one_after_the_other, inputs), strict=True):
        torch.testing.assert_close(actual, expected)


# ---- the same numbers ----


@pytest.mark.parametrize("boxes", [False, True], ids=["points", "boxes"])
@pytest.mark.parametrize("channels", [1, 3, 8, 30, 32, 71, 1025], ids="d{}".format)
def test_gradient_matches_finite_differences(device, channels, boxes):
    inputs = make(device, channels=channels, batch=1, queries=3, heads=2, boxes=boxes, requires_grad=True)
    assert torch.autograd.gradcheck(ms_deform_attn_fused, tuple(inputs), fast_mode=channels > 8, nondet_tol=1e-12)


@pytest.mark.parametrize("levels", [1, 2, 5], ids="l{}".format)
@pytest.mark.parametrize("points", [1, 4, 9], ids="p{}".format)
@pytest.mark.parametrize("boxes", [False, True], ids=["points", "boxes"])
def test_any_number_of_levels_and_points(device, levels, points, boxes):
    assert_equals_the_parts(make(device, levels=levels, points=points, boxes=boxes))


@pytest.mark.parametrize("channels", [30, 32, 64, 128], ids="d{}".format)
@pytest.mark.parametrize(
    ("dtype", "stored"),
    [
        (torch.float64, torch.float64),
        (torch.float64, torch.float32),
        (torch.float32, torch.float32),
        (torch.float32, torch.float16),
        (torch.float16, torch.float32),
        (torch.float16, torch.float16),
        (torch.bfloat16, torch.float32),
        (torch.bfloat16, torch.bfloat16),
    ],
    ids=lambda dtype: str(dtype).removeprefix("torch."),
)
def test_16_bits_are_only_storage(device, dtype, stored, channels):
    inputs = make(device, dtype, stored=stored, channels=channels, queries=64, levels=3)
    output, *gradients = run(ms_deform_attn_fused, inputs)
    expected_output, *expected_gradients = run(one_after_the_other, in_float64(inputs))
    assert output.dtype == dtype
    assert [gradient.dtype for gradient in gradients] == [tensor.dtype for tensor in (inputs[0], *inputs[3:])]
    assert relative_error(output, expected_output) < BOUND[dtype]
    for gradient, expected in zip(gradients, expected_gradients, strict=True):
        # Half an output gradient's rounding enters each gradient besides the gradient's own.
        assert relative_error(gradient, expected) < 2 * max(BOUND[dtype], BOUND[gradient.dtype])


def test_a_location_is_never_rounded_to_16_bits(device):
    # A level 4096 wide that holds its own column: in float16 a location there would be off by a pixel and more.
    width = 4096
    value = torch.arange(width, dtype=torch.float32, device=device).view(1, width, 1, 1)
    shapes = torch.tensor([[1, width]], device=device)
    reference = torch.tensor([3001.5 / width, 0.5], device=device).view(1, 1, 1, 2)
    offset = torch.tensor([0.25, 0.0], dtype=torch.float16, device=device).view(1, 1, 1, 1, 1, 2)
    output = ms_deform_attn_fused(value, shapes, shapes.new_zeros(1), reference, offset, offset.new_zeros(1, 1, 1, 1))
    torch.testing.assert_close(output.flatten().cpu(), torch.tensor([3001.25]), rtol=0, atol=1e-3)


@pytest.mark.parametrize("boxes", [False, True], ids=["points", "boxes"])
@pytest.mark.parametrize("axes", [(0,), (1,), (2,), (0, 1, 2)], ids=str)
def test_a_reference_serves_all_batches_queries_or_levels(device, axes, boxes):
    inputs = make(device, boxes=boxes)
    reference = inputs.reference_points
    for axis in axes:
        reference = reference.narrow(axis, 0, 1)
    assert_equals_the_parts(inputs._replace(reference_points=reference))


def test_logits_may_come_as_one_row_per_head(device):
    inputs = make(device)
    flat = inputs._replace(attention_logits=inputs.attention_logits.flatten(3))
    for actual, expected in zip(run(ms_deform_attn_fused, flat), run(ms_deform_attn_fused, inputs), strict=True):
        assert torch.equal(actual.view(expected.shape), expected)


@pytest.mark.parametrize(("batch", "queries"), [(0, 5), (2, 0), (1, 1), (3, 7), (65, 1)])
def test_any_batch_and_any_number_of_queries(device, batch, queries):
    assert_equals_the_parts(make(device, batch=batch, queries=queries))


@pytest.mark.parametrize("wanted", list(itertools.product([True, False], repeat=4))[:-1], ids=str)
def test_only_the_wanted_gradients_are_computed(device, wanted):
    inputs = make(device)
    grad_output = torch.linspace(-1, 1, 2 * 5 * 24, device=device).double().view(2, 5, 24)
    _, *expected = run(one_after_the_other, inputs)
    for gradient, reference, is_wanted in zip(BACKWARD(*inputs, grad_output, wanted), expected, wanted, strict=True):
        assert gradient.numel() > 0 if is_wanted else gradient.numel() == 0
        if is_wanted:
            torch.testing.assert_close(gradient, reference)


@pytest.mark.parametrize("odd", ["float32", "float16"])
def test_views_are_read_where_they_lie(device, odd):
    plain = make(device, getattr(torch, odd), stored=getattr(torch, odd), channels=32, boxes=True)

    def off_by_one(tensor):  # neither aligned to a vector nor contiguous
        storage = torch.zeros(*tensor.shape[:-1], tensor.shape[-1] + 3, dtype=tensor.dtype, device=device)
        return storage[..., 1 : 1 + tensor.shape[-1]].copy_(tensor)

    def backwards(tensor):  # the last two axes in the other order in memory
        return tensor.transpose(-1, -2).contiguous().transpose(-1, -2) if tensor.dim() > 1 else tensor

    expected = run(ms_deform_attn_fused, plain)
    for lay in (off_by_one, backwards):
        for actual, reference in zip(run(ms_deform_attn_fused, [lay(x) for x in plain]), expected, strict=True):
            torch.testing.assert_close(actual, reference)


# ---- what is no number or no place ----


@pytest.mark.parametrize("number", [float("nan"), float("inf"), float("-inf"), 1e30])
@pytest.mark.parametrize("field", ["sampling_offsets", "reference_points"])
def test_a_sample_that_is_no_place_reads_zero(device, field, number):
    inputs = make(device, torch.float32)
    broken = getattr(inputs, field).clone()
    broken[0, 0, 0, ..., 0] = number
    outside = getattr(inputs, field).clone()
    outside[0, 0, 0, ..., 0] = 100
    actual = ms_deform_attn_fused(*inputs._replace(**{field: broken}))
    torch.testing.assert_close(actual, ms_deform_attn_fused(*inputs._replace(**{field: outside})))


@pytest.mark.parametrize("number", [float("nan"), float("inf"), float("-inf"), 1e30, -1e30])
def test_logits_that_are_no_numbers_do_what_softmax_does(device, number):
    inputs = make(device, torch.float32)
    inputs.attention_logits[0, 0, 0, 0, 0] = number
    inputs.attention_logits[1, 1, 1] = number  # a whole row
    results = zip(run(ms_deform_attn_fused, inputs), run(one_after_the_other, inputs), strict=True)
    output, value, _, _, logits = results  # outside a level, no weight gives a location a slope: the reference has NaN
    for actual, expected in (output, value, logits):
        torch.testing.assert_close(actual, expected, equal_nan=True)


def test_large_logits_do_not_overflow(device):
    inputs = make(device, torch.float32)
    assert_equals_the_parts(inputs._replace(attention_logits=inputs.attention_logits * 100 + 1000))


# ---- a citizen of torch ----


@needs_opcheck
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16], ids=["float32", "float16"])
def test_forward_passes_opcheck(device, dtype):
    torch.library.opcheck(OP, tuple(make(device, dtype, requires_grad=True)), atol=1e-2, rtol=1e-2)


@needs_opcheck
@pytest.mark.parametrize("wanted", [[True] * 4, [True, False, True, True]], ids=str)
def test_backward_passes_opcheck(device, wanted):
    torch.library.opcheck(BACKWARD, (*make(device, torch.float32), torch.randn(2, 5, 24, device=device), wanted))


@needs_opcheck  # torch 2.0's tracer refuses operators of others in a full graph
@pytest.mark.parametrize("dynamic", [False, True], ids=["static", "dynamic"])
@pytest.mark.parametrize("backend", ["aot_eager", "inductor"])
def test_compiles_into_one_graph(device, backend, dynamic):
    torch._dynamo.reset()
    compiled = torch.compile(
        lambda *inputs: ms_deform_attn_fused(*inputs).sin(), fullgraph=True, backend=backend, dynamic=dynamic
    )
    for queries in (5, 9):
        inputs = make(device, torch.float32, queries=queries, requires_grad=True)
        leaves = [tensor for tensor in inputs if tensor.requires_grad]
        expected = ms_deform_attn_fused(*inputs).sin()
        actual = compiled(*inputs)
        torch.testing.assert_close(actual, expected)
        for one, other in zip(
            torch.autograd.grad(actual.sum(), leaves), torch.autograd.grad(expected.sum(), leaves), strict=True
        ):
            torch.testing.assert_close(one, other)


def test_meta_tensors_have_the_result_shapes():
    inputs = make("meta", torch.float16)
    output = OP(*inputs)
    assert (output.device.type, output.dtype, output.shape) == ("meta", torch.float16, (2, 5, 24))
    gradients = BACKWARD(*inputs, output, [True, False, True, True])
    expected = [inputs.value.shape, (0,), inputs.sampling_offsets.shape, inputs.attention_logits.shape]
    assert [gradient.shape for gradient in gradients] == expected


def test_second_derivatives_are_refused_not_zero(device):
    inputs = make(device, requires_grad=True)
    (first,) = torch.autograd.grad(ms_deform_attn_fused(*inputs).sum(), inputs.value, create_graph=True)
    with pytest.raises(RuntimeError, match="second derivatives are not implemented"):
        first.sum().backward()


@pytest.mark.parametrize("short", [torch.bfloat16, torch.float16], ids=["bfloat16", "float16"])
def test_autocast_raises_reference_points_only(device, short):
    if device.type == "cpu" and short == torch.float16 and not hasattr(torch.library, "opcheck"):
        pytest.skip("CPU autocast to float16 came after torch 2.0")
    inputs = make(device, short, stored=short)
    with torch.autocast(device.type, dtype=short):
        kept = ms_deform_attn_fused(*inputs)
        raised = ms_deform_attn_fused(*inputs._replace(reference_points=inputs.reference_points.to(short)))
    assert kept.dtype == short
    assert torch.equal(kept, ms_deform_attn_fused(*inputs))
    rounded = inputs._replace(reference_points=inputs.reference_points.to(short).float())
    assert torch.equal(raised, ms_deform_attn_fused(*rounded))


def test_autocast_returns_gradients_in_the_inputs_types(device):
    inputs = make(device, torch.bfloat16, stored=torch.bfloat16, requires_grad=True)
    with torch.autocast(device.type, dtype=torch.bfloat16):
        output = ms_deform_attn_fused(*inputs)
    output.float().sum().backward()
    assert all(tensor.grad.dtype == tensor.dtype for tensor in inputs if tensor.requires_grad)


# ---- on a GPU ----


@pytest.mark.cuda
def test_many_samples_add_up():
    inputs = make("cuda", torch.float32, channels=32, queries=6000, levels=3, points=4)
    expected = run(one_after_the_other, in_float64(inputs))
    for actual, reference in zip(run(ms_deform_attn_fused, inputs), expected, strict=True):
        assert relative_error(actual, reference) < 2 * BOUND[torch.float32]


@pytest.mark.cuda
@pytest.mark.parametrize("queries", [5, 701], ids=["in place", "staged"])  # staged: many samples for the values
@pytest.mark.parametrize("channels", [16, 32, 64, 128], ids="d{}".format)
@pytest.mark.parametrize(("levels", "points"), [(1, 4), (3, 4), (5, 4), (2, 8), (5, 8), (3, 3)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16], ids=str)
@pytest.mark.parametrize("narrow", [False, True], ids=["float32 offsets", "offsets like values"])
def test_values_in_shared_memory(dtype, levels, points, channels, queries, narrow):
    inputs = make(
        "cuda",
        dtype,
        channels=channels,
        queries=queries,
        heads=5,
        levels=levels,
        points=points,
        stored=dtype if narrow else None,
    )
    assert relative_error(ms_deform_attn_fused(*inputs), one_after_the_other(*in_float64(inputs))) < BOUND[dtype]


@pytest.mark.cuda
@pytest.mark.parametrize("channels", [32, 30], ids="d{}".format)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16], ids=["float32", "float16"])
def test_blocks_of_several_tiles_of_queries(dtype, channels):
    # 24000 tiles and more, of 4 to 32 queries, and a last block per image that has fewer than the others.
    inputs = make("cuda", dtype, channels=channels, batch=150, heads=8, queries=610, points=2, levels=3)
    expected = one_after_the_other(*in_float64(inputs))
    assert relative_error(ms_deform_attn_fused(*inputs), expected) < BOUND[dtype]


@pytest.mark.cuda
def test_deterministic_mode_is_bitwise_equal_over_runs():
    inputs = make("cuda", torch.float32, channels=32, queries=3000, levels=3, boxes=True)
    torch.use_deterministic_algorithms(True)
    try:
        results = [run(ms_deform_attn_fused, inputs) for _ in range(20)]
    finally:
        torch.use_deterministic_algorithms(False)
    for result in results[1:]:
        assert all(torch.equal(one, other) for one, other in zip(result, results[0], strict=True))


@pytest.mark.cuda
def test_runs_in_a_cuda_graph():
    inputs = make("cuda", torch.float32, channels=32)
    grad_output = torch.randn(2, 5, 96, device="cuda")

    def both():
        return OP(*inputs), *BACKWARD(*inputs, grad_output, [True] * 4)

    expected = both()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        captured = both()
    for tensor in captured:
        tensor.fill_(float("nan"))
    graph.replay()
    for actual, reference in zip(captured, expected, strict=True):
        torch.testing.assert_close(actual, reference)


# ---- a wrong argument is answered by one sentence ----

WRONG = {
    "value of integers": (
        {"value": torch.zeros(2, 42, 3, 8, dtype=torch.int32)},
        "value has dtype Int, expected Double, Float, Half or BFloat16.",
    ),
    "starts for another number of levels": (
        {"level_start_index": torch.tensor([0])},
        "level_start_index has shape [1], expected (L=2).",
    ),
    "offsets of another number of heads": (
        {"sampling_offsets": torch.zeros(2, 5, 4, 2, 3, 2)},
        "sampling_offsets has shape [2, 5, 4, 2, 3, 2], expected (B=2, Q, M=3, L=2, P, 2).",
    ),
    "offsets in float64 beside float32 values": (
        {"sampling_offsets": torch.zeros(2, 5, 3, 2, 3, 2, dtype=torch.float64)},
        "sampling_offsets has dtype Double, expected Float, Half or BFloat16.",
    ),
    "logits of another number of points": (
        {"attention_logits": torch.zeros(2, 5, 3, 2, 4)},
        "attention_logits has shape [2, 5, 3, 2, 4], expected (B=2, Q=5, M=3, L=2, P=3).",
    ),
    "logits that are integers": (
        {"attention_logits": torch.zeros(2, 5, 3, 6, dtype=torch.int64)},
        "attention_logits has dtype Long, expected Float, Half or BFloat16.",
    ),
    "references of three numbers": (
        {"reference_points": torch.zeros(2, 5, 2, 3)},
        "reference_points has shape [2, 5, 2, 3], expected (B=2, Q=5, L=2, 2 or 4), where B, Q and L may be 1.",
    ),
    "references of another number of queries": (
        {"reference_points": torch.zeros(2, 4, 2, 2)},
        "reference_points has shape [2, 4, 2, 2], expected (B=2, Q=5, L=2, 2 or 4), where B, Q and L may be 1.",
    ),
    "a level that reaches beyond value": (
        {"spatial_shapes": torch.tensor([[6, 5], [3, 5]])},
        "level 1 of spatial_shapes is 3 x 5 and starts at 30 in level_start_index, "
        "expected a level inside the 42 pixels of value.",
    ),
}


@pytest.mark.parametrize("name", WRONG)
def test_the_sentence_names_the_argument(name):
    change, sentence = WRONG[name]
    with pytest.raises(RuntimeError) as caught:
        ms_deform_attn_fused(*make(dtype=torch.float32)._replace(**change))
    assert str(caught.value).splitlines()[0].startswith("ms_deform_attn: " + sentence)


@pytest.mark.cuda
def test_tensors_on_two_devices_are_refused():
    inputs = make("cuda", torch.float32)
    with pytest.raises(RuntimeError, match="reference_points is on cpu, expected cuda:0 like value"):
        ms_deform_attn_fused(*inputs._replace(reference_points=inputs.reference_points.cpu()))
