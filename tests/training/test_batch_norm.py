"""Batch norm over processes equals torch's own layer on all batches together: outputs, statistics, gradients."""

from __future__ import annotations

import os

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from torch import nn

from racdino.training.batch_norm import reduce_batch_norm

COUNTS = (5, 2, 0)  # samples per process; one has none
BACKENDS = {"gloo": ("cpu", COUNTS), "nccl": ("cuda", COUNTS[:2])}
LAYERS = {
    "1d": (lambda **k: nn.BatchNorm1d(4, **k), (4,)),
    "pillars": (lambda **k: nn.BatchNorm1d(4, **k), (4, 3)),
    "2d": (lambda **k: nn.BatchNorm2d(4, **k), (4, 3, 2)),
    "3d": (lambda **k: nn.BatchNorm3d(4, **k), (4, 2, 1, 2)),
}
OPTIONS = {
    "plain": {},
    "cumulative": {"momentum": None},
    "not affine": {"affine": False},
    "no statistics": {"track_running_stats": False},
    "as PointPillars": {"eps": 1e-3, "momentum": 0.01},
}


def make(kind, option, dtype, counts=COUNTS):
    torch.manual_seed(1)
    layer = LAYERS[kind][0](**OPTIONS[option]).to(dtype)
    for value in layer.parameters():
        nn.init.normal_(value)
    batches = [(torch.randn(sum(counts), *LAYERS[kind][1]) * 3 + 100).to(dtype).split(counts) for _ in range(3)]
    weights = [batch.sin() for batch in map(torch.cat, batches)]  # a loss that is no symmetric function of the values
    return layer, batches, weights


def train(layer, inputs, weights):
    """Outputs, gradients of inputs and parameters (of the sum over the steps), buffers after them."""
    found = []
    for x, weight in zip(inputs, weights, strict=True):
        x = x.clone().requires_grad_()
        y = layer(x).relu_()  # in place, as detectors do
        (y * weight).sum().backward()
        found += [y.detach(), x.grad]
    return found, [value.grad for value in layer.parameters()], [buffer.clone() for buffer in layer.buffers()]


def worker(rank, folder, cases, backend):
    torch.set_num_threads(1)
    kind, counts = BACKENDS[backend]
    device = torch.device(kind, rank)
    if device.type == "cuda":
        torch.cuda.set_device(device)
    dist.init_process_group(backend, init_method=f"file://{folder}/meet", rank=rank, world_size=len(counts))
    results = {}
    for case in cases:
        layer, batches, weights = make(*case, counts)
        layer = reduce_batch_norm(layer).to(device)
        shares = [weight.split(counts)[rank].to(device) for weight in weights]
        results[case] = train(layer, [batch[rank].to(device) for batch in batches], shares)
    layer, batches, _ = make("2d", "plain", torch.float32, counts)
    kept = []
    with torch.autograd.graph.saved_tensors_hooks(lambda x: kept.append((x.numel(), x.dtype)) or x, lambda x: x):
        reduce_batch_norm(layer).to(device)(batches[0][rank].to(device, torch.bfloat16).requires_grad_())
    results["kept"] = kept
    frozen, batches, _ = make("2d", "plain", torch.float32)
    frozen = reduce_batch_norm(frozen).eval()
    if rank == 0:  # alone: a frozen layer must not wait for the others
        results["frozen"] = frozen(batches[0][0])
    torch.save(results, f"{folder}/{rank}.pt")
    dist.barrier()
    os._exit(0)  # gloo's thread, still there when Python has gone, now and then aborts the process


CASES = [("2d", option, torch.float64) for option in OPTIONS] + [(kind, "plain", torch.float64) for kind in LAYERS]
CASES = list(dict.fromkeys([*CASES, ("2d", "plain", torch.float32), ("pillars", "as PointPillars", torch.float32)]))


@pytest.fixture(scope="module", params=["gloo", pytest.param("nccl", marks=[pytest.mark.cuda, pytest.mark.two_gpus])])
def results(tmp_path_factory, request):
    folder = tmp_path_factory.mktemp("processes")
    _, counts = BACKENDS[request.param]
    mp.spawn(worker, (str(folder), CASES, request.param), nprocs=len(counts))
    return [torch.load(folder / f"{rank}.pt", map_location="cpu") for rank in range(len(counts))]


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case[0]}, {case[1]}, {case[2]}")
def test_processes_compute_what_torch_computes_on_the_whole_batch(results, case):
    layer, batches, weights = make(*case, COUNTS[: len(results)])
    found, gradients, buffers = train(layer, [torch.cat(batch) for batch in batches], weights)
    tolerance = {"rtol": 1e-9, "atol": 1e-9} if case[2] == torch.float64 else {"rtol": 1e-4, "atol": 1e-4}
    for index, expected in enumerate(found):
        torch.testing.assert_close(torch.cat([result[case][0][index] for result in results]), expected, **tolerance)
    for index, expected in enumerate(gradients):
        torch.testing.assert_close(sum(result[case][1][index] for result in results), expected, **tolerance)
    for result in results:
        for own, expected in zip(result[case][2], buffers, strict=True):
            torch.testing.assert_close(own, expected, **tolerance)


def test_of_16_bit_inputs_nothing_larger_is_kept_for_the_backward_pass(results):
    numel = results[0]["kept"][0][0]
    assert numel == COUNTS[0] * 4 * 3 * 2
    assert [dtype for kept, dtype in results[0]["kept"] if kept == numel] == [torch.bfloat16]


def test_a_frozen_layer_talks_to_nobody_and_is_torchs(results):
    layer, batches, _ = make("2d", "plain", torch.float32)
    assert torch.equal(results[0]["frozen"], layer.eval()(batches[0][0]))


def test_conversion_keeps_names_parameters_and_kinds():
    model = nn.Sequential(nn.Conv2d(3, 4, 1), nn.Sequential(nn.BatchNorm2d(4), nn.ReLU()), nn.LayerNorm(4))
    names, parameters = list(model.state_dict()), list(model.parameters())
    reduced = reduce_batch_norm(model)
    assert list(reduced.state_dict()) == names
    assert all(one is other for one, other in zip(reduced.parameters(), parameters, strict=True))
    assert isinstance(reduced[1][0], nn.BatchNorm2d)
    assert type(reduced[1][0]) is not nn.BatchNorm2d


def test_alone_it_is_torchs_layer_bit_for_bit():
    layer, batches, weights = make("2d", "plain", torch.float32)
    expected = train(layer, [torch.cat(batch) for batch in batches], weights)
    again, batches, weights = make("2d", "plain", torch.float32)
    found = train(reduce_batch_norm(again), [torch.cat(batch) for batch in batches], weights)
    for one, other in zip(found, expected, strict=True):
        assert all(torch.equal(a, b) for a, b in zip(one, other, strict=True))
