"""On a GPU one operator finds the places that plain torch finds step by step, and their gradients, in float64."""

from __future__ import annotations

import pytest
import torch
from test_view_sampling import COORDINATES, SIZE, camera

from racdino.detector.decoder.bev_sampling import BEVSampling
from racdino.detector.decoder.joined_linear import JoinedLinear
from racdino.detector.decoder.ray_points import Boxes, RayPoints
from racdino.detector.decoder.view_sampling import ViewSampling
from racdino.ops import Ray, ray_locations

FRAMES, QUERIES = 3, 70
AGES = torch.tensor([[0.0, 0.5, 1.1], [0.0, 0.4, 0.9]], dtype=torch.float64)


def query_boxes() -> torch.Tensor:
    """All directions and distances, also beyond the range, at the car, and with a yaw of no direction."""
    box = torch.rand(2, QUERIES, 10, dtype=torch.float64)
    box[..., 6:] = torch.randn(2, QUERIES, 4, dtype=torch.float64)
    box[:, 0, 1] = box[:, 0, 8] = box[:, 0, 9] = 0
    box[:, 1, 6:8] = 0
    return box


def views_of(sampler: ViewSampling, device: str):
    features = [torch.zeros(2, FRAMES * 3, 8, 16 // 2**level, 24 // 2**level).double() for level in range(2)]
    cameras = torch.stack([camera([0.0, 0.6, 3.0][index % 3], 0.05 * index) for index in range(FRAMES * 3)])
    cameras = cameras.expand(2, -1, -1, -1).to(device)
    return sampler.views([level.to(device) for level in features], cameras, SIZE)


def numbers_of(sampler: RayPoints, query: torch.Tensor):
    """On the GPU as the decoder asks: the operator then reads parts of longer rows."""
    return JoinedLinear(sampler.linears())(query) if query.is_cuda else sampler.numbers(query)


def in_views(device: str, box: torch.Tensor, query: torch.Tensor, sampler: ViewSampling) -> torch.Tensor:
    return sampler.locations(Boxes(box, AGES.to(device)), numbers_of(sampler, query), views_of(sampler, device), 0.08)


def on_the_ground(device: str, box: torch.Tensor, query: torch.Tensor, sampler: BEVSampling) -> torch.Tensor:
    return sampler.places(Boxes(box, AGES.to(device)), numbers_of(sampler, query), 0.08)


SAMPLERS = {
    "views": (in_views, lambda: ViewSampling(8, 3, 2, 4, FRAMES, 2, COORDINATES)),
    "ground": (on_the_ground, lambda: BEVSampling(8, 5, 2, 4, FRAMES, (6, 10), COORDINATES)),
    "one place": (on_the_ground, lambda: BEVSampling(8, 1, 4, 1, FRAMES, (6, 10), COORDINATES)),
}


@pytest.mark.cuda
@pytest.mark.parametrize("name", SAMPLERS)
def test_places_and_gradients_are_those_of_plain_torch(name):
    find, build = SAMPLERS[name]
    torch.manual_seed(0)
    sampler = build().double()
    for parameter in sampler.parameters():
        torch.nn.init.normal_(parameter, std=0.5)
    box, query = query_boxes(), torch.randn(2, QUERIES, 8, dtype=torch.float64)
    results = []
    for device in ("cpu", "cuda"):
        sampler = sampler.to(device)
        # Motion follows the velocity without gradient; the yaw without direction has none in torch (NaN).
        leaves = [x.to(device).requires_grad_() for x in (box, query)]
        places = find(device, *leaves, sampler)
        upstream = torch.randn(places.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
        parameters = [sampler.sampling_offset.weight, sampler.ray_points_offset.bias]
        gradients = torch.autograd.grad(places, [*leaves, *parameters], upstream.to(device))
        results.append([x.cpu() for x in (places, *gradients)])
    for ours, plain in zip(*reversed(results), strict=True):
        known = plain.isfinite()
        assert known.double().mean() > 0.9
        assert (ours - plain)[known].abs().max() <= 1e-9 * plain[known].abs().max()


@pytest.mark.cuda
def test_the_same_bits_in_every_run_and_nan_stays():
    torch.manual_seed(0)
    offsets = torch.randn(2, 900, 5, 4, 4, 2, device="cuda", requires_grad=True)
    steps = torch.randn(2, 900, 5, device="cuda", requires_grad=True)
    boxes = torch.rand(2, 900, 10, device="cuda", requires_grad=True)
    ages = torch.rand(2, 8, device="cuda")
    ray = Ray(COORDINATES.pc_range, COORDINATES.radius, 0.08)
    runs = []
    for _ in range(2):
        places = ray_locations(offsets, steps, boxes, ages, ray)
        runs.append([places, *torch.autograd.grad(places.square().sum(), (offsets, steps, boxes))])
    for first, second in zip(*runs, strict=True):
        assert torch.equal(first, second)
    with torch.no_grad():
        offsets[0, 0, 0, 0, 0, 0] = float("nan")
        assert ray_locations(offsets, steps, boxes, ages, ray)[0, :, 0, 0, 0].isnan().all()


@pytest.mark.cuda
def test_too_many_points_or_another_dtype_is_one_sentence():
    boxes, ages = torch.rand(1, 2, 10, device="cuda"), torch.rand(1, 1, device="cuda")
    ray = Ray(COORDINATES.pc_range, COORDINATES.radius, 0.08)
    with pytest.raises(RuntimeError, match="a query looks at 513 points per frame, expected at most 512"):
        ray_locations(torch.rand(1, 2, 3, 9, 19, 2, device="cuda"), boxes[..., :3], boxes, ages, ray)
    with pytest.raises(RuntimeError, match=r"steps is \[1, 2, 3\] Double on cuda:0, expected \[1, 2, 3\] like offsets"):
        ray_locations(torch.rand(1, 2, 3, 2, 2, 2, device="cuda"), boxes[..., :3].double(), boxes, ages, ray)


@pytest.mark.parametrize("views", [False, True])
def test_meta_tensors_give_the_shapes_and_gradients_theirs(views):
    """What torch.compile knows of the operator; the CUDA kernels give the same shapes (above)."""

    def empty(*shape: int, dtype=torch.float32) -> torch.Tensor:
        return torch.empty(*shape, device="meta", dtype=dtype)

    leaves = [empty(2, 7, 3, 4, 2, 3 if views else 2), empty(2, 7, 3), empty(2, 7, 10)]
    leaves = [leaf.requires_grad_() for leaf in leaves]
    seen = (empty(2, 5, 6, 4, 4), empty(4, 2, dtype=torch.int64)) if views else ()
    places = ray_locations(*leaves, empty(2, 5), Ray(COORDINATES.pc_range, 65.0, 0.08, SIZE), *seen)
    assert places.shape == ((2, 5, 7, 6, 4, 4, 2) if views else (2, 5, 7, 4, 6, 2))
    gradients = torch.autograd.grad(places.sum(), leaves)
    assert [gradient.shape for gradient in gradients] == [leaf.shape for leaf in leaves]
