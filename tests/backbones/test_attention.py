"""The attention back ends compute the same function, and one that cannot run says so."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys

import pytest
import torch

from racdino.backbones import attention as attention_module
from racdino.backbones.attention import attention, backend, refusal, use_backend

CUDA = torch.cuda.is_available()


def make_inputs(head_width, dtype=torch.float32, device="cpu"):
    generator = torch.Generator().manual_seed(head_width)
    return [torch.randn(2, 3, 37, head_width, generator=generator).to(device, dtype).requires_grad_() for _ in range(3)]


def float64_attention(query, key, value):
    """Written out head by head, query by query."""
    output = torch.empty_like(query)
    for b in range(query.shape[0]):
        for m in range(query.shape[1]):
            scores = query[b, m] @ key[b, m].T / query.shape[-1] ** 0.5
            weights = scores.exp() / scores.exp().sum(1, keepdim=True)
            output[b, m] = weights @ value[b, m]
    return output


def candidates():
    for name, head_width, device, dtype in [
        ("sdpa", 64, "cpu", torch.float32),
        ("math", 64, "cpu", torch.float32),
        ("sdpa", 20, "cpu", torch.float32),
        ("math", 20, "cpu", torch.float32),
        ("xformers", 4, "cpu", torch.float32),
        ("xformers", 20, "cpu", torch.float32),
        ("xformers", 32, "cpu", torch.float32),
        ("sdpa", 64, "cuda", torch.float16),
        ("xformers", 64, "cuda", torch.float16),
        ("flash_attn", 64, "cuda", torch.float16),
        ("flash_attn", 64, "cuda", torch.bfloat16),
    ]:
        marks = []
        if device == "cuda":
            capability = torch.cuda.get_device_capability() if CUDA else None
            reason = refusal(name, device, capability, dtype, head_width) if CUDA else "there is no CUDA device"
            marks += [pytest.mark.cuda, pytest.mark.skipif(reason is not None, reason=f"{name} on cuda: {reason}")]
        if name in ("xformers", "flash_attn"):
            missing = importlib.util.find_spec(name) is None
            marks.append(pytest.mark.skipif(missing, reason=f"{name} is not installed"))
        yield pytest.param(
            name, head_width, device, dtype, marks=marks, id=f"{name}-{device}-{str(dtype)[6:]}-{head_width}"
        )


@pytest.mark.parametrize(("name", "head_width", "device", "dtype"), list(candidates()))
def test_back_end_computes_softmax_attention_and_its_gradient(name, head_width, device, dtype):
    inputs = make_inputs(head_width, dtype, device)
    doubles = [x.detach().cpu().double().requires_grad_() for x in inputs]
    expected = float64_attention(*doubles)
    upstream = torch.randn(expected.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    expected_gradients = torch.autograd.grad(expected, doubles, upstream)
    with use_backend(name):
        output = attention(*inputs)
        gradients = torch.autograd.grad(output, inputs, upstream.to(device, dtype))
    tolerance = {torch.float32: 1e-5, torch.float16: 5e-3, torch.bfloat16: 4e-2}[dtype]
    for got, want in zip((output, *gradients), (expected, *expected_gradients), strict=True):
        assert got.dtype == dtype
        assert (got.double().cpu() - want).abs().max() <= tolerance * want.abs().max()


@pytest.mark.parametrize(
    ("name", "device", "capability", "dtype", "head_width", "runs"),
    [
        ("sdpa", "cpu", None, torch.float64, 71, True),
        ("math", "cuda", (7, 0), torch.float16, 300, True),
        ("flash_attn", "cpu", None, torch.float16, 64, False),
        ("flash_attn", "cuda", (7, 5), torch.float16, 64, False),
        ("flash_attn", "cuda", (8, 0), torch.float32, 64, False),
        ("flash_attn", "cuda", (8, 0), torch.float16, 64, True),
        ("flash_attn", "cuda", (9, 0), torch.bfloat16, 64, True),
        ("xformers", "cuda", (7, 0), torch.float16, 64, True),
        ("xformers", "cuda", (8, 9), torch.float32, 64, True),
        ("xformers", "cuda", (9, 0), torch.float16, 64, False),
        ("xformers", "cuda", (12, 0), torch.float16, 64, False),
        ("xformers", "cpu", None, torch.float32, 32, True),
        ("xformers", "cpu", None, torch.float32, 64, False),
        ("xformers", "cpu", None, torch.float16, 32, False),
    ],
)
def test_what_each_binary_can_run(name, device, capability, dtype, head_width, runs):
    assert (refusal(name, device, capability, dtype, head_width) is None) == runs


def test_xformers_is_refused_on_a_cpu_at_the_head_width_of_dinov2():
    pytest.importorskip("xformers")
    with use_backend("xformers"), pytest.raises(RuntimeError, match="'xformers' runs on a CPU only for float32 heads"):
        attention(*make_inputs(64))


def test_use_backend_restores_the_previous_one_and_knows_the_names():
    before = backend()
    with use_backend("math"):
        assert backend() == "math"
    assert backend() == before
    with pytest.raises(ValueError, match="there is no attention back end 'flash'; there are sdpa, xformers"):
        use_backend("flash")
    assert backend() == before


def test_a_library_that_does_not_load_is_named(monkeypatch):
    monkeypatch.setitem(attention_module._LIBRARIES, "flash_attn", "racdino_no_such_library")
    with pytest.raises(ImportError, match="'flash_attn' needs racdino_no_such_library, which does not load here"):
        use_backend("flash_attn")


@pytest.mark.parametrize("name", ["", "xformers"])
def test_importing_and_running_prints_and_warns_nothing(name):
    if name == "xformers":
        pytest.importorskip("xformers")
    code = (
        "import torch\nfrom racdino.backbones import DinoVisionTransformer\n"
        "from racdino.backbones.attention import backend\n"
        "model = DinoVisionTransformer(img_size=28, patch_size=14, embed_dim=32, depth=1, num_heads=2)\n"
        "model(torch.zeros(1, 3, 28, 28))\n"
        f"assert backend() == {name or 'sdpa'!r}"
    )
    environment = {"RACDINO_ATTENTION": name} if name else {}
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code],
        capture_output=True,
        text=True,
        env={**os.environ, **environment},
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
