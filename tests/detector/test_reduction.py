"""Two processes with a sample each have the loss and the gradient of one process with both."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch
import torch.distributed as distributed
import torch.multiprocessing
from small_head import find, keyed, make_head, make_inputs, make_targets, of_sample

from racdino.detector.reduction import mean_over_processes, normaliser

COUNTS = (2, 5)


def train_step(ranks: range, device: torch.device) -> tuple[dict[str, float], list[torch.Tensor]]:
    head, inputs, (boxes, labels) = make_head().train().to(device), make_inputs(), make_targets(COUNTS)
    if len(ranks) == 1:
        inputs = of_sample(inputs, ranks[0])
    features, *maps, size = inputs
    inputs = ([level.to(device) for level in features], *(x.to(device) for x in maps), size)
    boxes, labels = [boxes[rank].to(device) for rank in ranks], [labels[rank].to(device) for rank in ranks]
    output = find(head, inputs, (boxes, labels), keyed(*(11 + rank for rank in ranks)))
    losses = head.loss(output, boxes, labels)
    torch.stack(list(losses.values())).sum().backward()
    gradients = [parameter.grad for parameter in head.parameters() if parameter.grad is not None]
    return {name: float(loss) for name, loss in losses.items()}, gradients


def worker(rank: int, folder: str, backend: str) -> None:
    torch.set_num_threads(1)
    device = torch.device("cuda" if backend == "nccl" else "cpu", rank)
    if device.type == "cuda":
        torch.cuda.set_device(device)
    distributed.init_process_group(backend, init_method=f"file://{folder}/meeting", rank=rank, world_size=2)
    losses, gradients = train_step(range(rank, rank + 1), device)
    mean = {name: float(mean_over_processes(torch.tensor(loss, device=device))) for name, loss in losses.items()}
    gradients = [mean_over_processes(gradient) for gradient in gradients]
    few = [float(normaliser(count, torch.zeros(1, device=device))) for count in (rank, 0)]
    if rank == 0:
        torch.save((mean, gradients, few), f"{folder}/result.pt")
    distributed.barrier()
    os._exit(0)  # destroy_process_group now and then hangs, on a lock between gloo's thread and Python


@pytest.mark.slow
@pytest.mark.parametrize("backend", ["gloo", pytest.param("nccl", marks=[pytest.mark.cuda, pytest.mark.two_gpus])])
def test_two_processes_have_the_loss_and_the_gradient_of_one(tmp_path: Path, backend: str):
    torch.multiprocessing.spawn(worker, (str(tmp_path), backend), nprocs=2)
    losses, gradients, few = torch.load(tmp_path / "result.pt", map_location="cpu")
    expected, expected_gradients = train_step(range(2), torch.device("cpu"))
    assert losses == pytest.approx(expected, rel=1e-5)
    for found, one in zip(gradients, expected_gradients, strict=True):
        torch.testing.assert_close(found, one, rtol=1e-5, atol=1e-8)
    assert few == [0.5, 0.5]  # one object in all, and none: divided by a total of 1, as one process does


def test_one_process_divides_by_its_own_count_and_at_least_by_one():
    x = torch.tensor([3.0])
    assert mean_over_processes(x) is x
    assert [float(normaliser(count, x)) for count in (0, 1, 7)] == [1, 1, 7]
