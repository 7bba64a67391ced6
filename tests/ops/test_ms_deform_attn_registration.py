"""The operator is a full citizen of torch: autograd, autocast, meta tensors, opcheck, torch.compile."""

from __future__ import annotations

import pytest
import torch

from racdino.ops import ms_deform_attn

OP = torch.ops.racdino.ms_deform_attn_forward.default
BACKWARD = torch.ops.racdino.ms_deform_attn_backward.default

needs_opcheck = pytest.mark.skipif(
    not hasattr(torch.library, "opcheck"),
    reason=f"torch.library.opcheck came with torch 2.4; this is {torch.__version__}",
)


@needs_opcheck
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16], ids=["float32", "float16"])
def test_forward_passes_opcheck(device, make_inputs, dtype):
    inputs = make_inputs(device, dtype, location_dtype=torch.float32, requires_grad=True)
    torch.library.opcheck(OP, (*inputs, 64), atol=1e-2, rtol=1e-2)


@needs_opcheck
@pytest.mark.parametrize("wanted", [[True, True, True], [True, False, True]], ids=str)
def test_backward_passes_opcheck(device, make_inputs, wanted):
    inputs = make_inputs(device, torch.float32)
    torch.library.opcheck(BACKWARD, (*inputs, torch.randn(2, 5, 24, device=device), 64, wanted))


@needs_opcheck  # torch 2.0's tracer refuses operators of others in a full graph
@pytest.mark.parametrize("dynamic", [False, True], ids=["static", "dynamic"])
@pytest.mark.parametrize("backend", ["aot_eager", "inductor"])
def test_compiles_into_one_graph(device, make_inputs, backend, dynamic):
    torch._dynamo.reset()
    compiled = torch.compile(
        lambda *inputs: ms_deform_attn(*inputs).sin(), fullgraph=True, backend=backend, dynamic=dynamic
    )
    for queries in (5, 9):
        inputs = make_inputs(device, torch.float32, queries=queries, requires_grad=True)
        leaves = [tensor for tensor in inputs if tensor.requires_grad]
        expected = ms_deform_attn(*inputs).sin()
        actual = compiled(*inputs)
        torch.testing.assert_close(actual, expected)
        for one, other in zip(
            torch.autograd.grad(actual.sum(), leaves), torch.autograd.grad(expected.sum(), leaves), strict=True
        ):
            torch.testing.assert_close(one, other)


def test_meta_tensors_have_the_result_shapes(make_inputs):
    inputs = make_inputs("meta", torch.float16)
    output = OP(*inputs, 64)
    assert (output.device.type, output.dtype, output.shape) == ("meta", torch.float16, (2, 5, 24))
    gradients = BACKWARD(*inputs, output, 64, [True, False, True])
    assert [gradient.shape for gradient in gradients] == [inputs.value.shape, (0,), inputs.attention_weights.shape]


def test_the_raw_operator_is_differentiable(device, make_inputs):
    inputs = make_inputs(device, requires_grad=True)
    OP(*inputs, 64).sum().backward()
    assert all(tensor.grad is not None for tensor in inputs if tensor.requires_grad)


def test_second_derivatives_are_refused_not_zero(device, make_inputs):
    inputs = make_inputs(device, requires_grad=True)
    (first,) = torch.autograd.grad(ms_deform_attn(*inputs).sum(), inputs.value, create_graph=True)
    with pytest.raises(RuntimeError, match="second derivatives are not implemented"):
        first.sum().backward()


@pytest.mark.parametrize("short", [torch.bfloat16, torch.float16], ids=["bfloat16", "float16"])
def test_autocast_keeps_values_short_and_raises_locations(device, make_inputs, short):
    if device.type == "cpu" and short == torch.float16 and not hasattr(torch.library, "opcheck"):
        pytest.skip("CPU autocast to float16 came after torch 2.0")
    inputs = make_inputs(device, short, location_dtype=torch.float32)
    with torch.autocast(device.type, dtype=short):
        kept = ms_deform_attn(*inputs)
        # The field's modules hand over everything in the short type: the sampling is then done in float32.
        raised = ms_deform_attn(*[tensor.to(short) if tensor.is_floating_point() else tensor for tensor in inputs])
        whole = ms_deform_attn(*[tensor.float() if tensor.is_floating_point() else tensor for tensor in inputs])
    assert (kept.dtype, raised.dtype, whole.dtype) == (short, short, torch.float32)
    assert torch.equal(kept, ms_deform_attn(*inputs))
    rounded = [tensor.to(short).float() if tensor.is_floating_point() else tensor for tensor in inputs]
    assert torch.equal(raised, ms_deform_attn(*rounded).to(short))


def test_autocast_returns_gradients_in_the_inputs_types(device, make_inputs):
    inputs = make_inputs(device, torch.bfloat16, requires_grad=True)
    with torch.autocast(device.type, dtype=torch.bfloat16):
        output = ms_deform_attn(*inputs)
    output.float().sum().backward()
    assert {tensor.grad.dtype for tensor in inputs if tensor.requires_grad} == {torch.bfloat16}


@pytest.mark.skipif(torch.version.cuda is not None and torch.cuda.is_available(), reason="this build has the kernels")
def test_a_build_without_cuda_says_so_in_one_sentence(make_inputs):
    """CPU tensors handed to the CUDA key: there are no others here."""
    key = torch._C.DispatchKey.CUDA
    sentence = "ms_deform_attn_forward: the tensors are on a CUDA device, but racdino was built without CUDA; build it"
    with pytest.raises(RuntimeError, match=sentence):
        OP._op_dk(key, *make_inputs("cpu"), 64)
    names = ("ms_deform_attn_backward", "ms_deform_attn_fused", "ms_deform_attn_fused_backward")
    others = ("ray_locations", "weave", "crop", "add_layer_norm", "depthwise_conv_gelu", "batch_norm_act")
    for name in (*names, *others, *(f"{name}_backward" for name in others)):
        assert torch._C._dispatch_has_kernel_for_dispatch_key(f"racdino::{name}", "CUDA")
