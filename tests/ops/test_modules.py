"""The module keeps the field's parameter names and initial state, and the geometry of its reference points."""

from __future__ import annotations

import pytest
import torch

from racdino.ops import MSDeformAttn, ms_deform_attn_reference

SHAPES = torch.tensor([[8, 6], [4, 3]])
STARTS = torch.tensor([0, 48])


def test_state_dict_has_the_names_and_shapes_of_the_field():
    module = MSDeformAttn(d_model=96, n_levels=2, n_heads=6, n_points=4, ratio=0.5)
    assert {name: tuple(parameter.shape) for name, parameter in module.state_dict().items()} == {
        "sampling_offsets.weight": (6 * 2 * 4 * 2, 96),
        "sampling_offsets.bias": (6 * 2 * 4 * 2,),
        "attention_weights.weight": (6 * 2 * 4, 96),
        "attention_weights.bias": (6 * 2 * 4,),
        "value_proj.weight": (48, 96),
        "value_proj.bias": (48,),
        "output_proj.weight": (96, 48),
        "output_proj.bias": (96,),
    }


def test_heads_start_out_looking_in_directions_around_the_reference():
    module = MSDeformAttn(d_model=32, n_levels=2, n_heads=8, n_points=3)
    offsets = module.sampling_offsets.bias.detach().view(8, 2, 3, 2)
    # Head 0 looks right, head 1 along the diagonal, head 2 down, ...; point p lies p + 1 pixels away on the square.
    directions = torch.tensor([[1, 0], [1, 1], [0, 1], [-1, 1], [-1, 0], [-1, -1], [0, -1], [1, -1]]).float()
    for point in range(3):
        for level in range(2):
            torch.testing.assert_close(offsets[:, level, point], directions * (point + 1), atol=1e-5, rtol=0)
    for zero in (module.sampling_offsets.weight, module.attention_weights.weight, module.attention_weights.bias):
        assert not zero.any()
    assert not module.value_proj.bias.any()
    assert module.value_proj.weight.abs().max() <= (6 / 64) ** 0.5  # xavier: sqrt(6 / (fan_in + fan_out))


def run(module, reference_points, **extra):
    generator = torch.Generator().manual_seed(0)
    query = torch.randn(2, 5, 32, generator=generator)
    features = torch.randn(2, 60, 32, generator=generator)
    return query, features, module(query, reference_points, features, SHAPES, STARTS, **extra)


@pytest.mark.parametrize("boxes", [False, True], ids=["points", "boxes"])
def test_equals_the_formula_of_the_paper(boxes):
    torch.manual_seed(0)
    module = MSDeformAttn(d_model=32, n_levels=2, n_heads=4, n_points=3)
    with torch.no_grad():
        module.sampling_offsets.weight.normal_(0, 0.1)
        module.attention_weights.weight.normal_(0, 0.1)
    reference = torch.rand(2, 5, 2, 4 if boxes else 2)
    query, features, actual = run(module, reference)

    offsets = module.sampling_offsets(query).view(2, 5, 4, 2, 3, 2)
    weights = module.attention_weights(query).view(2, 5, 4, 6).softmax(-1).view(2, 5, 4, 2, 3)
    locations = torch.empty_like(offsets)
    for level, (H, W) in enumerate(SHAPES.tolist()):
        for axis, size in enumerate((W, H)):
            scale = reference[:, :, level, 2 + axis] / 2 / 3 if boxes else torch.full((2, 5), 1 / size)
            locations[:, :, :, level, :, axis] = (
                reference[:, :, None, level, None, axis] + offsets[:, :, :, level, :, axis] * scale[:, :, None, None]
            )
    value = module.value_proj(features).view(2, 60, 4, 8)
    expected = module.output_proj(ms_deform_attn_reference(value, SHAPES, STARTS, locations, weights))
    torch.testing.assert_close(actual, expected)


def test_a_layer_that_was_replaced_or_is_listened_to_is_called():
    class Doubled(torch.nn.Linear):
        def forward(self, x):
            return 2 * super().forward(x)

    torch.manual_seed(0)
    module = MSDeformAttn(d_model=32, n_levels=2, n_heads=4, n_points=3)
    torch.nn.init.normal_(module.attention_weights.weight, std=0.1)
    reference = torch.rand(2, 5, 2, 2)
    doubled = Doubled(32, 24)
    doubled.load_state_dict({name: value / 2 for name, value in module.attention_weights.state_dict().items()})
    *_, before = run(module, reference)
    heard = []
    handle = module.sampling_offsets.register_forward_hook(lambda *arguments: heard.append(arguments[2].shape))
    *_, listened_to = run(module, reference)
    handle.remove()
    module.attention_weights = doubled
    *_, replaced = run(module, reference)
    assert heard == [(2, 5, 48)]
    torch.testing.assert_close(listened_to, before)
    torch.testing.assert_close(replaced, before)


def test_padding_reads_zero():
    module = MSDeformAttn(d_model=32, n_levels=2, n_heads=4, n_points=3)
    _, _, output = run(module, torch.rand(2, 5, 2, 2), input_padding_mask=torch.ones(2, 60, dtype=torch.bool))
    torch.testing.assert_close(output, module.output_proj.bias.expand(2, 5, 32))


def test_wrong_arguments_are_named():
    with pytest.raises(ValueError, match=r"d_model 30 .* does not split into 4 heads"):
        MSDeformAttn(d_model=30, n_heads=4)
    with pytest.raises(ValueError, match=r"reference_points has shape \(2, 5, 2, 3\), expected"):
        run(MSDeformAttn(d_model=32, n_levels=2, n_heads=4), torch.rand(2, 5, 2, 3))


@pytest.mark.parametrize("short", [torch.bfloat16])
def test_trains_under_autocast(device, short):
    module = MSDeformAttn(d_model=32, n_levels=2, n_heads=4).to(device)
    query, features = torch.randn(2, 5, 32, device=device), torch.randn(2, 60, 32, device=device)
    with torch.autocast(device.type, dtype=short):
        output = module(query, torch.rand(2, 5, 2, 2, device=device), features, SHAPES.to(device), STARTS.to(device))
    output.float().sum().backward()
    assert all(torch.isfinite(parameter.grad).all() for parameter in module.parameters())
