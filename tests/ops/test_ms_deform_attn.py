"""The compiled operator equals the pure-torch reference, forward and backward, whatever it is fed."""

from __future__ import annotations

import itertools

import pytest
import torch

from racdino.ops import ms_deform_attn, ms_deform_attn_reference

CHANNELS = [1, 2, 3, 4, 8, 16, 30, 32, 64, 71, 128, 1025]
# Relative error in the 2-norm that storing in this type must cost at most; the sums themselves are float32 or better.
BOUND = {torch.float64: 1e-12, torch.float32: 1e-5, torch.float16: 5e-4, torch.bfloat16: 4e-3}


def relative_error(actual: torch.Tensor, expected: torch.Tensor) -> float:
    return float((actual.double() - expected.double()).norm() / expected.double().norm())


def run(function, inputs, grad_output=None):
    """Output and the three gradients."""
    value, shapes, starts, locations, weights = inputs
    leaves = [tensor.detach().requires_grad_() for tensor in (value, locations, weights)]
    output = function(leaves[0], shapes, starts, leaves[1], leaves[2])
    grad_output = torch.linspace(-1, 1, output.numel(), device=output.device) if grad_output is None else grad_output
    return output.detach(), *torch.autograd.grad(output, leaves, grad_output.view(output.shape).to(output.dtype))


def in_float64(inputs):
    return [tensor.double() if tensor.is_floating_point() else tensor for tensor in inputs]


@pytest.mark.parametrize("channels", CHANNELS, ids="d{}".format)  # odd widths take the scalar ends of the loops
def test_gradient_matches_finite_differences(device, make_inputs, channels):
    inputs = make_inputs(device, channels=channels, batch=1, queries=3, heads=2, requires_grad=True)
    assert torch.autograd.gradcheck(ms_deform_attn, tuple(inputs), fast_mode=channels > 8, nondet_tol=1e-12)


@pytest.mark.parametrize("levels", [1, 2, 3, 4, 5], ids="l{}".format)
@pytest.mark.parametrize("points", [1, 4, 8, 9], ids="p{}".format)
def test_any_number_of_levels_and_points(device, make_inputs, levels, points):
    inputs = make_inputs(device, levels=levels, points=points)
    for actual, expected in zip(run(ms_deform_attn, inputs), run(ms_deform_attn_reference, inputs), strict=True):
        torch.testing.assert_close(actual, expected)


@pytest.mark.parametrize("wanted", list(itertools.product([True, False], repeat=3))[:-1], ids=str)
def test_only_the_wanted_gradients_are_computed(device, make_inputs, wanted):
    inputs = make_inputs(device)
    _, *expected = run(ms_deform_attn_reference, inputs)
    gradients = torch.ops.racdino.ms_deform_attn_backward(
        *inputs, torch.linspace(-1, 1, 2 * 5 * 24, device=device).double().view(2, 5, 24), 64, wanted
    )
    for gradient, reference, is_wanted in zip(gradients, expected, wanted, strict=True):
        assert gradient.numel() > 0 if is_wanted else gradient.numel() == 0
        if is_wanted:
            torch.testing.assert_close(gradient, reference)


@pytest.mark.parametrize("channels", [4, 30, 32, 71], ids="d{}".format)
@pytest.mark.parametrize(
    ("dtype", "location_dtype"),
    [
        (torch.float64, torch.float64),
        (torch.float64, torch.float32),
        (torch.float32, torch.float32),
        (torch.float16, torch.float16),
        (torch.float16, torch.float32),
        (torch.bfloat16, torch.bfloat16),
        (torch.bfloat16, torch.float32),
    ],
    ids=lambda dtype: str(dtype).removeprefix("torch."),
)
def test_every_dtype_is_as_close_to_float64_as_its_storage_allows(device, make_inputs, dtype, location_dtype, channels):
    inputs = make_inputs(device, dtype, location_dtype=location_dtype, channels=channels, queries=64, levels=3)
    output, *gradients = run(ms_deform_attn, inputs)
    expected_output, *expected_gradients = run(ms_deform_attn_reference, in_float64(inputs))
    assert output.dtype == dtype
    assert [gradient.dtype for gradient in gradients] == [dtype, location_dtype, location_dtype]
    assert relative_error(output, expected_output) < BOUND[dtype]
    # Against a float64 operator fed float32 locations only the gradients' own rounding remains.
    for gradient, expected in zip(gradients, expected_gradients, strict=True):
        # Half an output gradient's rounding enters each gradient besides the gradient's own.
        assert relative_error(gradient, expected) < 2 * max(BOUND[dtype], BOUND[gradient.dtype] / 10)


def test_equals_the_peer_in_mmcv(make_inputs):
    mmcv_ops = pytest.importorskip("mmcv.ops.multi_scale_deform_attn", reason="mmcv-full is not installed here")
    value, shapes, starts, locations, weights = make_inputs(channels=32, levels=4)
    expected = mmcv_ops.multi_scale_deformable_attn_pytorch(value, shapes, locations, weights)
    torch.testing.assert_close(ms_deform_attn(value, shapes, starts, locations, weights), expected)


@pytest.mark.parametrize(
    ("x", "expected"),
    [
        (-1.0, 0.0),  # the open border: half a pixel beyond the level's edge reads nothing
        (-0.75, 0.25 * 10),
        (-0.5, 0.5 * 10),
        (0.0, 10.0),  # the centre of the first pixel
        (0.25, 0.75 * 10 + 0.25 * 20),
        (2.0, 30.0),  # the centre of the last
        (2.75, 0.25 * 30),
        (3.0, 0.0),
        (1e30, 0.0),
        (-1e30, 0.0),
        (float("inf"), 0.0),
        (float("-inf"), 0.0),
        (float("nan"), 0.0),
    ],
)
@pytest.mark.parametrize("axis", [0, 1], ids=["x", "y"])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=["float64", "float32"])
def test_borders_and_locations_that_are_no_place(device, axis, x, expected, dtype):
    # One row (or column) of three pixels 10 20 30, sampled in pixel coordinates along it and in the middle across.
    value = torch.tensor([10.0, 20.0, 30.0], dtype=dtype, device=device).view(1, 3, 1, 1).requires_grad_()
    shapes = torch.tensor([[1, 3], [3, 1]][axis], device=device).view(1, 2)
    along, across = (x + 0.5) / 3, 0.5
    location = torch.tensor([(along, across), (across, along)][axis], dtype=dtype, device=device)
    location = location.view(1, 1, 1, 1, 1, 2).requires_grad_()
    weight = torch.ones(1, 1, 1, 1, 1, dtype=dtype, device=device, requires_grad=True)
    output = ms_deform_attn(value, shapes, shapes.new_zeros(1), location, weight)
    assert output.item() == pytest.approx(expected, abs=1e-4 if dtype == torch.float32 else 1e-9)
    gradients = torch.autograd.grad(output.sum(), (value, location, weight))
    for gradient in gradients:
        assert torch.isfinite(gradient).all()
        if expected == 0.0:
            assert not gradient.any()


def test_not_a_number_stays_with_its_own_sample(device, make_inputs):
    inputs = make_inputs(device)
    broken = inputs.sampling_locations.clone()
    broken[0, 0, 0, 0, 0, 0] = float("nan")
    ignored = inputs.attention_weights.clone()
    ignored[0, 0, 0, 0, 0] = 0
    actual = ms_deform_attn(*inputs._replace(sampling_locations=broken))
    torch.testing.assert_close(actual, ms_deform_attn(*inputs._replace(attention_weights=ignored)))


@pytest.mark.parametrize("wide", [False, True], ids=["few", "many"])  # many: another backward on a GPU
def test_a_weight_that_is_no_number_adds_nothing_where_its_sample_is_outside(device, make_inputs, wide):
    inputs = make_inputs(device, torch.float32, channels=32, queries=8192 if wide else 5)
    locations, weights = inputs[3].detach().clone(), inputs[4].detach().clone()
    locations[0, 0], weights[0, 0] = 9.0, float("nan")
    nothing = weights.clone()
    nothing[0, 0] = 0
    _, found, *_ = run(ms_deform_attn, (*inputs[:3], locations, weights))
    _, expected, *_ = run(ms_deform_attn_reference, (*inputs[:3], locations, nothing))
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(("batch", "queries"), [(0, 5), (2, 0), (0, 0), (1, 1), (3, 7), (65, 1)])
def test_any_batch_and_any_number_of_queries(device, make_inputs, batch, queries):
    inputs = make_inputs(device, batch=batch, queries=queries)
    for actual, expected in zip(run(ms_deform_attn, inputs), run(ms_deform_attn_reference, inputs), strict=True):
        torch.testing.assert_close(actual, expected)


@pytest.mark.parametrize("step", [1, 2, 3, 64, 1000])
def test_im2col_step_has_no_effect(device, make_inputs, step):
    inputs = make_inputs(device, batch=5)
    assert torch.equal(ms_deform_attn(*inputs, step), ms_deform_attn(*inputs))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16], ids=["float32", "float16"])
def test_views_are_read_where_they_lie(device, make_inputs, dtype):
    plain = make_inputs(device, dtype, location_dtype=torch.float32, channels=32)

    def off_by_one(tensor):  # neither aligned to a vector nor contiguous
        storage = torch.zeros(*tensor.shape[:-1], tensor.shape[-1] + 3, dtype=tensor.dtype, device=device)
        view = storage[..., 1 : 1 + tensor.shape[-1]]
        return view.copy_(tensor)

    def shifted(tensor):  # contiguous, but starting at an odd element
        storage = torch.zeros(tensor.numel() + 1, dtype=tensor.dtype, device=device)
        return storage[1:].view(tensor.shape).copy_(tensor)

    expected = run(ms_deform_attn, plain)
    for lay in (off_by_one, shifted):
        odd = [lay(tensor) for tensor in plain]
        grad_output = lay(torch.linspace(-1, 1, expected[0].numel(), device=device).view(expected[0].shape))
        for actual, reference in zip(run(ms_deform_attn, odd, grad_output), expected, strict=True):
            torch.testing.assert_close(actual, reference)


def test_levels_may_start_anywhere(device, make_inputs):
    inputs = make_inputs(device)
    padded = torch.nn.functional.pad(inputs.value, (0, 0, 0, 0, 7, 2), value=float("nan"))
    moved = inputs._replace(value=padded, level_start_index=inputs.level_start_index + 7)
    assert torch.equal(ms_deform_attn(*moved), ms_deform_attn(*inputs))


def test_cpu_results_do_not_depend_on_the_number_of_threads(make_inputs):
    inputs = make_inputs(dtype=torch.float32, channels=40, queries=900, heads=2, batch=1, levels=3)
    before = torch.get_num_threads()
    results = []
    try:
        for threads in (1, 2, 3, 8):
            torch.set_num_threads(threads)
            results.append(run(ms_deform_attn, inputs))
    finally:
        torch.set_num_threads(before)
    for result in results[1:]:
        assert all(torch.equal(one, other) for one, other in zip(result, results[0], strict=True))


@pytest.mark.cuda
@pytest.mark.parametrize("queries", [5, 701], ids=["in place", "staged"])  # staged: many samples for the values
@pytest.mark.parametrize("channels", [16, 24, 32, 64, 128], ids="d{}".format)
@pytest.mark.parametrize(("levels", "points"), [(1, 4), (3, 4), (2, 8), (3, 3)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16], ids=str)
def test_values_in_shared_memory(make_inputs, dtype, levels, points, channels, queries):
    inputs = make_inputs(
        "cuda",
        dtype,
        location_dtype=torch.float32,
        channels=channels,
        queries=queries,
        heads=5,
        levels=levels,
        points=points,
    )
    value = inputs.value.clone()
    value[1, 2, 3] = float("nan")
    expected = ms_deform_attn_reference(*in_float64(inputs._replace(value=value)))
    output = ms_deform_attn(*inputs._replace(value=value))
    assert torch.equal(output.isnan(), expected.isnan())
    assert relative_error(output.nan_to_num(), expected.nan_to_num()) < BOUND[dtype]


@pytest.mark.cuda
@pytest.mark.parametrize("queries", [7, 300])  # values are read in place; and staged in shared memory
@pytest.mark.parametrize("points", [3, 4, 8])
@pytest.mark.parametrize("channels", [16, 24, 32, 64, 128])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16, torch.float64], ids=str)
def test_gradients_of_locations_and_weights_alone(make_inputs, dtype, channels, points, queries):
    inputs = make_inputs(
        "cuda", dtype, channels=channels, points=points, queries=queries, levels=3, location_dtype=torch.float32
    )
    inputs.sampling_locations[0, 3, 1, 2] = float("nan")  # outside
    grad_output = torch.randn(2, queries, 3 * channels, device="cuda").to(dtype)
    _, _, *expected = run(ms_deform_attn_reference, in_float64(inputs), grad_output)
    for wanted in [(False, True, True), (False, True, False), (False, False, True)]:
        _, *gradients = torch.ops.racdino.ms_deform_attn_backward(*inputs, grad_output, 64, wanted)
        for gradient, reference, is_wanted in zip(gradients, expected, wanted[1:], strict=True):
            if is_wanted:
                assert relative_error(gradient, reference) < 1e-5  # float32, whatever values are stored in
            else:
                assert gradient.numel() == 0


@pytest.mark.cuda
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16, torch.float64], ids=str)
def test_deterministic_mode_is_bitwise_equal_over_runs(make_inputs, dtype):
    inputs = make_inputs("cuda", dtype, location_dtype=torch.float32, channels=32, points=4, queries=3000, levels=3)
    torch.use_deterministic_algorithms(True)
    try:
        results = [run(ms_deform_attn, inputs) for _ in range(20)]
    finally:
        torch.use_deterministic_algorithms(False)
    for result in results[1:]:
        assert all(torch.equal(one, other) for one, other in zip(result, results[0], strict=True))
    for actual, expected in zip(results[0], run(ms_deform_attn_reference, in_float64(inputs)), strict=True):
        assert relative_error(actual, expected) < 2 * BOUND[dtype] + 1e-5


# Queries over the few pixels of make_inputs: pixels gather their samples, or these are sorted by cell.
SPARSE_AND_DENSE = [20, 300]


@pytest.fixture
def deterministic():
    torch.use_deterministic_algorithms(True)
    yield
    torch.use_deterministic_algorithms(False)


@pytest.mark.cuda
@pytest.mark.usefixtures("deterministic")
@pytest.mark.parametrize("channels", [5, 30, 32, 64, 128, 256, 1025], ids="d{}".format)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64], ids=str)
@pytest.mark.parametrize("queries", SPARSE_AND_DENSE)
def test_deterministic_mode_adds_up_in_every_width(make_inputs, dtype, channels, queries):
    inputs = make_inputs("cuda", dtype, channels=channels, queries=queries, levels=5, location_dtype=torch.float32)
    expected = run(ms_deform_attn_reference, in_float64(inputs))
    for actual, reference in zip(run(ms_deform_attn, inputs), expected, strict=True):
        assert relative_error(actual, reference) < 2 * BOUND[dtype] + 1e-6  # locations are float32 in all of them


@pytest.mark.cuda
@pytest.mark.usefixtures("deterministic")
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64], ids=str)
def test_deterministic_mode_with_all_samples_in_one_cell(make_inputs, dtype):
    inputs = make_inputs("cuda", dtype, channels=32, queries=3000, location_dtype=torch.float32)
    inputs = inputs._replace(sampling_locations=torch.full_like(inputs.sampling_locations, 0.55))
    expected = run(ms_deform_attn_reference, in_float64(inputs))
    for actual, reference in zip(run(ms_deform_attn, inputs), expected, strict=True):
        assert relative_error(actual, reference) < 2 * BOUND[dtype] + 1e-6  # locations are float32 in all of them


@pytest.mark.cuda
@pytest.mark.usefixtures("deterministic")
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64], ids=str)
@pytest.mark.parametrize("queries", SPARSE_AND_DENSE)
def test_deterministic_mode_with_levels_that_share_pixels(make_inputs, dtype, queries):
    inputs = make_inputs("cuda", dtype, channels=32, queries=queries, levels=5, location_dtype=torch.float32)
    inputs = inputs._replace(level_start_index=torch.tensor([3, 0, 1, 1, 2], device="cuda"))
    expected = run(ms_deform_attn_reference, in_float64(inputs))
    for actual, reference in zip(run(ms_deform_attn, inputs), expected, strict=True):
        assert relative_error(actual, reference) < 2 * BOUND[dtype] + 1e-6


@pytest.mark.cuda
@pytest.mark.usefixtures("deterministic")
@pytest.mark.parametrize("everywhere", [True, False], ids=["everywhere", "in one cell"])
@pytest.mark.parametrize("shape", [(1, 70), (70, 1), (45, 70), (130, 131)], ids=str)
@pytest.mark.parametrize("queries", [3, 90, 9000])  # a tile is wider than a block's window; not; needs several rounds
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64], ids=str)
def test_deterministic_mode_over_many_pixels(dtype, queries, shape, everywhere):
    generator = torch.Generator("cuda").manual_seed(0)
    shapes = torch.tensor([shape, (3, 5)], device="cuda")
    starts = torch.tensor([4, shape[0] * shape[1] + 9], device="cuda")
    lead = (1, queries, 2, 2, 3)
    value = torch.randn(1, int(starts[1]) + 19, 2, 32, device="cuda", generator=generator)  # 13 pixels are of no level
    random = torch.rand(2, *lead, 2, device="cuda", generator=generator)
    size = shapes.flip(1)[:, None]
    cell = (random[0] * (size + 1)).floor() if everywhere else size // 2
    locations = (cell - 0.4 + 0.8 * random[1]) / size  # no sample near the edge of its cell
    weights = torch.rand(lead, device="cuda", generator=generator)
    inputs = (value.to(dtype), shapes, starts, locations, weights)
    grad_output = torch.rand(queries * 64, device="cuda", generator=generator)  # of one sign: nothing cancels in a cell
    results = [run(ms_deform_attn, inputs, grad_output) for _ in range(3)]
    for result in results[1:]:
        assert all(torch.equal(one, other) for one, other in zip(result, results[0], strict=True))
    expected = run(ms_deform_attn_reference, in_float64(inputs), grad_output)
    for actual, reference in zip(results[0], expected, strict=True):
        assert relative_error(actual, reference) < 2 * BOUND[dtype] + 2e-5  # locations are float32


@pytest.mark.cuda
@pytest.mark.usefixtures("deterministic")
@pytest.mark.parametrize("wanted", [(True, True, False), (True, False, True), (True, False, False)], ids=str)
@pytest.mark.parametrize("queries", SPARSE_AND_DENSE)
def test_deterministic_mode_with_only_the_wanted_gradients(make_inputs, wanted, queries):
    inputs = make_inputs("cuda", torch.float32, channels=32, queries=queries)
    grad_output = torch.randn(2, queries, 96, device="cuda")
    expected = torch.ops.racdino.ms_deform_attn_backward(*inputs, grad_output, 64, [True] * 3)
    gradients = torch.ops.racdino.ms_deform_attn_backward(*inputs, grad_output, 64, wanted)
    for gradient, reference, is_wanted in zip(gradients, expected, wanted, strict=True):
        assert torch.equal(gradient, reference if is_wanted else reference.new_empty(0))


@pytest.mark.cuda
@pytest.mark.usefixtures("deterministic")
@pytest.mark.parametrize("queries", SPARSE_AND_DENSE)
@pytest.mark.parametrize("broken", [3, 4, 5], ids=["location", "weight", "grad_output"])
def test_deterministic_mode_and_one_that_is_no_number(make_inputs, broken, queries):
    grad_output = torch.randn(2 * queries * 96, device="cuda")
    inputs = [*make_inputs("cuda", torch.float32, channels=32, queries=queries, levels=3), grad_output]
    inputs[broken] = inputs[broken].clone()
    inputs[broken].view(-1)[inputs[broken].numel() // 2] = float("nan")
    *inputs, grad_output = inputs
    expected = run(ms_deform_attn_reference, in_float64(inputs), grad_output)
    for actual, reference in zip(run(ms_deform_attn, inputs, grad_output), expected, strict=True):
        assert torch.equal(actual.isnan(), reference.isnan())


@pytest.mark.cuda
@pytest.mark.usefixtures("deterministic")
@pytest.mark.parametrize("queries", SPARSE_AND_DENSE)
def test_deterministic_mode_runs_in_a_cuda_graph(make_inputs, queries):
    inputs = make_inputs("cuda", torch.float32, channels=32, queries=queries)
    grad_output = torch.randn(2, queries, 96, device="cuda")

    def backward():
        return torch.ops.racdino.ms_deform_attn_backward(*inputs, grad_output, 64, [True] * 3)

    expected = backward()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        captured = backward()
    for tensor in captured:
        tensor.fill_(float("nan"))
    graph.replay()
    assert all(torch.equal(actual, reference) for actual, reference in zip(captured, expected, strict=True))


# ---- samples that outnumber the pixels: filed by the cell they fall into ----


def many_samples(make_inputs, dtype, **sizes):
    return make_inputs(
        "cuda", dtype, location_dtype=torch.float32, **{"channels": 32, "queries": 6000, "levels": 3, **sizes}
    )


@pytest.mark.cuda
@pytest.mark.parametrize("channels", [16, 20, 32, 64, 128], ids="d{}".format)  # 20: by the other kernel
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16], ids=str)
def test_many_samples_in_a_cell_add_up(make_inputs, dtype, channels):
    inputs = many_samples(make_inputs, dtype, channels=channels, levels=5)
    expected = run(ms_deform_attn_reference, in_float64(inputs))
    for actual, reference in zip(run(ms_deform_attn, inputs), expected, strict=True):
        assert relative_error(actual, reference) < 2 * BOUND[dtype]


@pytest.mark.cuda
@pytest.mark.parametrize("wanted", [(True, True, False), (True, False, True), (True, False, False)], ids=str)
def test_many_samples_with_only_the_wanted_gradients(make_inputs, wanted):
    inputs = many_samples(make_inputs, torch.float32)
    grad_output = torch.randn(2, 6000, 96, device="cuda")
    expected = torch.ops.racdino.ms_deform_attn_backward(*inputs, grad_output, 64, [True] * 3)
    gradients = torch.ops.racdino.ms_deform_attn_backward(*inputs, grad_output, 64, wanted)
    for gradient, reference, is_wanted in zip(gradients, expected, wanted, strict=True):
        torch.testing.assert_close(gradient, reference if is_wanted else reference.new_empty(0), rtol=1e-3, atol=1e-2)


@pytest.mark.cuda
@pytest.mark.parametrize("broken", [3, 4], ids=["location", "weight"])
def test_many_samples_and_one_that_is_no_number(make_inputs, broken):
    inputs = list(many_samples(make_inputs, torch.float32))
    inputs[broken] = inputs[broken].clone()
    inputs[broken].view(-1)[inputs[broken].numel() // 2] = float("nan")
    expected = run(ms_deform_attn_reference, in_float64(inputs))
    for actual, reference in zip(run(ms_deform_attn, inputs), expected, strict=True):
        assert torch.equal(actual.isnan(), reference.isnan())


@pytest.mark.cuda
def test_many_samples_and_a_value_that_is_no_number(make_inputs):
    inputs = many_samples(make_inputs, torch.float32)
    results = []
    for number in (float("nan"), 0.0, 1000.0):
        value = inputs.value.clone()
        value[1, 7, 1, 5] = number
        results.append(run(ms_deform_attn, inputs._replace(value=value)))
    for with_nan, with_zero, with_thousand in zip(*results, strict=True):
        assert torch.equal(with_nan.isnan(), (with_zero - with_thousand).abs() > 0.01)


@pytest.mark.cuda
def test_many_samples_and_an_output_gradient_that_is_no_number(make_inputs):
    inputs = many_samples(make_inputs, torch.float32)
    grad_output = torch.randn(2 * 6000 * 96, device="cuda")
    grad_output[::96000] = float("nan")
    expected = run(ms_deform_attn_reference, in_float64(inputs), grad_output)
    for actual, reference in zip(run(ms_deform_attn, inputs, grad_output), expected, strict=True):
        assert torch.equal(actual.isnan(), reference.isnan())


@pytest.mark.cuda
@pytest.mark.parametrize("queries", [2500 + 630, 630], ids=["all levels", "one level"])
def test_many_samples_where_queries_are_pixels(queries):
    generator = torch.Generator("cuda").manual_seed(0)
    shapes = torch.tensor([[50, 50], [21, 30]], device="cuda")
    starts = torch.tensor([0, 2500], device="cuda")
    lead = (4, queries, 8, 2, 4)
    value = torch.randn(4, 3130, 8, 32, device="cuda", generator=generator)
    locations = torch.rand(*lead, 2, device="cuda", generator=generator) * 1.2 - 0.1
    inputs = (value, shapes, starts, locations, torch.rand(lead, device="cuda", generator=generator))
    expected = run(ms_deform_attn_reference, in_float64(inputs))
    for actual, reference in zip(run(ms_deform_attn, inputs), expected, strict=True):
        assert relative_error(actual, reference) < 2 * BOUND[torch.float32]


@pytest.mark.cuda
def test_many_samples_in_levels_that_share_pixels(make_inputs):
    inputs = many_samples(make_inputs, torch.float32, levels=5)
    inputs = inputs._replace(level_start_index=torch.tensor([3, 0, 1, 1, 2], device="cuda"))
    expected = run(ms_deform_attn_reference, in_float64(inputs))
    for actual, reference in zip(run(ms_deform_attn, inputs), expected, strict=True):
        assert relative_error(actual, reference) < 2 * BOUND[torch.float32]


# ---- 16-bit values, few samples to many pixels: a block has a level, and adds nothing to memory ----


def few_samples(dtype, shapes, starts, pixels, queries=600, points=4, batch=8):
    generator = torch.Generator("cuda").manual_seed(0)
    lead = (batch, queries, 8, len(shapes), points)
    value = torch.randn(batch, pixels, 8, 32, device="cuda", generator=generator).to(dtype)
    random = torch.rand(2, *lead, 2, device="cuda", generator=generator)
    shapes, starts = torch.tensor(shapes, device="cuda"), torch.tensor(starts, device="cuda")
    size = shapes.flip(1)[:, None]
    cell = ((random[0] * 1.4 - 0.2) * size).floor()
    locations = (cell + 0.6 + 0.8 * random[1]) / size  # no sample near the edge of its cell, where slopes jump
    return value, shapes, starts, locations, torch.rand(lead, device="cuda", generator=generator)


@pytest.fixture(params=[False, True], ids=["in any order", "in a fixed order"])
def either_order(request):
    torch.use_deterministic_algorithms(request.param)
    yield
    torch.use_deterministic_algorithms(False)


@pytest.mark.cuda
@pytest.mark.usefixtures("either_order")
@pytest.mark.parametrize("points", [3, 4], ids="p{}".format)
@pytest.mark.parametrize(
    ("shapes", "starts", "pixels"),
    [
        ([[40, 60], [20, 30], [1, 9]], [0, 2400, 3000], 3009),
        ([[1, 900], [900, 1]], [40, 1000], 2000),  # pixels of no level before, between and behind
        ([[30, 40], [15, 20]], [0, 1000], 1400),  # that share pixels
    ],
    ids=["levels", "gaps", "shared"],
)
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
def test_few_samples_to_many_pixels(dtype, shapes, starts, pixels, points):
    inputs = few_samples(dtype, shapes, starts, pixels, points=points)
    expected = run(ms_deform_attn_reference, in_float64(inputs))
    for actual, reference in zip(run(ms_deform_attn, inputs), expected, strict=True):
        assert relative_error(actual, reference) < 2 * BOUND[dtype]


@pytest.mark.cuda
@pytest.mark.usefixtures("deterministic")
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
def test_few_samples_in_a_fixed_order_give_equal_bits(dtype):
    inputs = few_samples(dtype, [[40, 60], [20, 30]], [0, 2400], 3000)
    results = [run(ms_deform_attn, inputs) for _ in range(20)]
    for result in results[1:]:
        assert all(torch.equal(one, other) for one, other in zip(result, results[0], strict=True))


@pytest.mark.cuda
@pytest.mark.usefixtures("either_order")
def test_few_samples_in_one_cell():
    inputs = few_samples(torch.float16, [[40, 60]], [0], 2400)
    inputs = (*inputs[:3], inputs[3] * 0.005 + 0.5, inputs[4])
    expected = run(ms_deform_attn_reference, in_float64(inputs))
    for actual, reference in zip(run(ms_deform_attn, inputs), expected, strict=True):
        assert relative_error(actual, reference) < 2 * BOUND[torch.float16]


@pytest.mark.cuda
@pytest.mark.usefixtures("either_order")
@pytest.mark.parametrize("broken", [3, 4, 5], ids=["location", "weight", "output gradient"])
def test_few_samples_and_one_that_is_no_number(broken):
    inputs = few_samples(torch.float16, [[40, 60]], [0], 2400)
    grad_output = torch.randn(8 * 600 * 256, device="cuda")
    inputs[3].view(-1)[200000:200002] = 0.5  # of the weight: inside
    (*inputs, grad_output)[broken].view(-1)[100000] = float("nan")
    expected = run(ms_deform_attn_reference, in_float64(inputs), grad_output)
    for actual, reference in zip(run(ms_deform_attn, inputs, grad_output), expected, strict=True):
        assert torch.equal(actual.isnan(), reference.isnan())


@pytest.mark.cuda
def test_runs_in_a_cuda_graph(make_inputs):
    inputs = make_inputs("cuda", torch.float32, channels=32)
    grad_output = torch.randn(2, 5, 96, device="cuda")

    def both():
        output = torch.ops.racdino.ms_deform_attn_forward(*inputs, 64)
        return output, *torch.ops.racdino.ms_deform_attn_backward(*inputs, grad_output, 64, [True] * 3)

    expected = both()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        captured = both()
    for tensor in captured:
        tensor.fill_(float("nan"))
    graph.replay()
    for actual, reference in zip(captured, expected, strict=True):
        torch.testing.assert_close(actual, reference)


@pytest.mark.cuda
@pytest.mark.two_gpus
def test_runs_on_the_device_of_its_tensors(make_inputs):
    inputs = make_inputs("cuda:1", torch.float32)
    assert torch.cuda.current_device() == 0
    for actual, expected in zip(run(ms_deform_attn, inputs), run(ms_deform_attn_reference, inputs), strict=True):
        torch.testing.assert_close(actual, expected)


@pytest.mark.cuda
@pytest.mark.slow
def test_offsets_beyond_32_bits(make_inputs):
    # 2.2e9 elements of value, 4.4 GB in float16; the last batch entry lies beyond what 32 bits can address.
    batch, S, M, D = 9, 30000, 128, 64
    value = torch.zeros(batch, S, M, D, dtype=torch.float16, device="cuda")
    value[-1, -1, -1] = 1
    shapes = torch.tensor([[1, S]], device="cuda")
    locations = torch.full((batch, 1, M, 1, 1, 2), 0.5, device="cuda")
    locations[..., 0] = (S - 0.5) / S
    weights = torch.ones(batch, 1, M, 1, 1, device="cuda")
    output = ms_deform_attn(value, shapes, shapes.new_zeros(1), locations, weights).view(batch, M, D)
    assert output[-1, -1].eq(1).all()
    assert output.sum() == D


# Images, levels, queries and channels of 128 heads, so that value has more than 2^31 elements; and whether in a fixed
# order. One way of computing gradients after the other.
HUGE = {
    "in place": (9, [[100, 300]], 1, 64, False),
    "by cell": (9, [[100, 300]], 300, 64, False),
    "by level": (33, [[40, 100]] * 4, 1024, 32, False),
    "by level, in order": (33, [[40, 100]] * 4, 1024, 32, True),
    "gathered": (9, [[100, 300]], 300, 64, True),
    "sorted": (132, [[40, 50]], 3000, 64, True),  # more than 2^31 elements of output, too
}


@pytest.mark.cuda
@pytest.mark.slow
@pytest.mark.parametrize("way", HUGE)
def test_gradients_beyond_32_bits(way, request):
    batch, levels, queries, channels, in_order = HUGE[way]
    if in_order:
        request.getfixturevalue("deterministic")
    shapes = torch.tensor(levels, device="cuda")
    starts = torch.cat([shapes.new_zeros(1), shapes.prod(1).cumsum(0)[:-1]])
    S, M, lead = int(shapes.prod(1).sum()), 128, (batch, queries, 128, len(levels), 4)
    half = {"device": "cuda", "dtype": torch.float16}
    value = torch.randn(batch, S, M, channels, **half)
    assert value.numel() > 2**31
    locations = torch.rand(*lead, 2, device="cuda").mul_(0.8).add_(0.6)  # no sample near the edge of its cell
    size = shapes.flip(1)[:, None]
    locations.add_(torch.rand(*lead, 2, device="cuda").mul_(size + 2).floor_()).sub_(1).div_(size)
    weights, grad_output = torch.rand(lead, device="cuda"), torch.randn(batch, queries, M * channels, **half)
    output = ms_deform_attn(value, shapes, starts, locations, weights)
    gradients = torch.ops.racdino.ms_deform_attn_backward(
        value, shapes, starts, locations, weights, grad_output, 64, [True] * 3
    )
    for image, head in ((slice(-1, None), slice(-1, None)), (slice(0, 1), slice(0, 1))):

        def part(x, image=image, head=head):
            return x[image, :, head]

        inputs = part(value), shapes, starts, part(locations), part(weights)
        expected = run(ms_deform_attn_reference, in_float64(inputs), part(grad_output.unflatten(2, (M, -1))))
        actual = part(output.unflatten(2, (M, -1))).flatten(2), *map(part, gradients)
        for ours, reference in zip(actual, expected, strict=True):
            assert relative_error(ours, reference) < 2 * BOUND[torch.float16]
