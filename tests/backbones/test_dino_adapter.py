"""DinoAdapter: the shapes, names and gradients that detectors and checkpoints rely on, checked on small models."""

from __future__ import annotations

import copy
import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import distributed, nn

from racdino.backbones import DinoAdapter, DinoVisionTransformer
from racdino.backbones.attention import use_backend
from racdino.backbones.interaction import Sampling

ROOT = Path(__file__).parents[2]
TINY = {
    "num_heads": 2,
    "pretrain_size": 56,
    "pretrained_vit": False,
    "embed_dim": 24,
    "depth": 4,
    "conv_inplane": 8,
    "deform_num_heads": 6,
    "interaction_indexes": [[0, 0], [1, 1], [2, 2], [3, 3]],
}


def tiny(seed=0, randomise=True, **changes):
    """A small adapter; ``randomise`` also fills what starts at zero, such as gamma, and thus hides whole branches."""
    torch.manual_seed(seed)
    model = DinoAdapter(**{**TINY, **changes})
    if randomise:
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.add_(torch.randn_like(parameter) * 0.1)
    return model


def images(height, width, batch=2, dtype=torch.float32):
    return torch.randn(batch, 3, height, width, dtype=dtype, generator=torch.Generator().manual_seed(1))


def loss_of(outputs):
    maps, vit_map = outputs
    return sum(
        (level * torch.linspace(-1, 1, level.numel()).view_as(level).to(level)).sum() for level in [*maps, vit_map]
    )


@torch.no_grad()
def test_on_a_cpu_batch_norms_get_contiguous_maps():
    """Of channels-last ones torch's CPU kernel adds up one float32 after the other (`for_batch_norm`)."""
    model, formats = tiny().eval(), []
    for norm in (model.norm1, model.norm2, model.norm3, model.norm4):
        norm.register_forward_pre_hook(lambda _, inputs: formats.append(inputs[0].is_contiguous()))
    model(images(97, 61))
    assert formats == [True] * 4


@pytest.mark.parametrize(
    ("height", "width"), [(256, 704), (224, 224), (266, 714), (250, 331), (97, 61), (33, 47), (32, 32), (45, 640)]
)
@pytest.mark.parametrize("registers", [0, 4])
@torch.no_grad()
def test_output_sizes_follow_the_image_not_the_padding(height, width, registers):
    maps, vit_map = tiny(num_register_tokens=registers)(images(height, width, batch=1))
    assert [tuple(level.shape) for level in maps] == [(1, 24, height // s, width // s) for s in (4, 8, 16, 32)]
    assert tuple(vit_map.shape) == (1, 24, height // 14, width // 14)


@torch.no_grad()
def test_sizes_inside_are_those_of_the_padded_image():
    """256x704 becomes 266x714: 19x51 patches beside maps of 67x179, 34x90, 17x45 and 9x23."""
    model = tiny()
    seen = {}
    model.spm.register_forward_hook(lambda _, inputs, outputs: seen.update(image=inputs[0].shape, spm=outputs))
    model.interactions[0].register_forward_hook(lambda _, inputs, __: seen.update(x=inputs[0].shape, c=inputs[1].shape))
    model(images(256, 704, batch=1))
    assert tuple(seen["image"][2:]) == (266, 714)
    assert [tuple(level.shape[2:]) for level in seen["spm"]] == [(67, 179), (34, 90), (17, 45), (9, 23)]
    assert (seen["x"][1], seen["c"][1]) == (1 + 19 * 51, 34 * 90 + 17 * 45 + 9 * 23)  # with the class token


@pytest.mark.parametrize("autocast", [False, True], ids=["float32", "autocast"])
@pytest.mark.parametrize("name", ["fc1", "fc2", "fc3", "fc4"])
@torch.no_grad()
def test_a_projection_is_called_where_someone_listens(name, autocast):
    model, x, heard, finest = tiny().eval(), images(64, 96), [], []
    model.norm1.register_forward_pre_hook(lambda _, inputs: finest.append(inputs[0].dtype))
    with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
        want, _ = model(x)
        model.spm.get_submodule(name).register_forward_hook(lambda *_: heard.append(name))
        found, _ = model(x)
    for got, level in zip(found, want, strict=True):
        assert (got - level).norm() <= (2e-2 if autocast else 1e-5) * level.norm()
    assert heard == [name]
    assert finest == [torch.bfloat16 if autocast else torch.float32] * 2


@torch.no_grad()
def test_padding_is_zeros_to_the_right_and_below():
    model = tiny().eval()
    x = images(100, 150)
    maps, vit_map = model(x)
    padded_maps, padded_vit_map = model(F.pad(x, (0, 4, 0, 12)))
    for got, want in zip([*maps, vit_map], [*padded_maps, padded_vit_map], strict=True):
        assert torch.equal(got, want[:, :, : got.shape[2], : got.shape[3]])


def expected_names():
    """The names in the format's description; those of the transformer are tested with it."""
    norm = ["weight", "bias"]
    batch_norm = [*norm, "running_mean", "running_var", "num_batches_tracked"]
    names = ["level_embed", *(f"up.{p}" for p in norm)]
    names += [f"spm.stem.{i}.weight" for i in (0, 3, 6)] + [f"spm.stem.{i}.{p}" for i in (1, 4, 7) for p in batch_norm]
    names += [f"spm.conv{i}.0.weight" for i in (2, 3, 4)] + [
        f"spm.conv{i}.1.{p}" for i in (2, 3, 4) for p in batch_norm
    ]
    names += [f"spm.fc{i}.{p}" for i in (1, 2, 3, 4) for p in norm]
    names += [f"norm{i}.{p}" for i in (1, 2, 3, 4) for p in batch_norm]
    linears = ["sampling_offsets", "attention_weights", "value_proj", "output_proj"]
    attention = ["query_norm", "feat_norm", *(f"attn.{linear}" for linear in linears)]
    extractor = [*attention, "ffn.fc1", "ffn.dwconv.dwconv", "ffn.fc2", "ffn_norm"]
    extractors = [f"interactions.{i}.extractor" for i in range(4)]
    extractors += [f"interactions.3.extra_extractors.{i}" for i in range(2)]
    names += [f"{prefix}.{part}.{p}" for prefix in extractors for part in extractor for p in norm]
    names += [f"interactions.{i}.injector.{part}.{p}" for i in range(4) for part in attention for p in norm]
    return {*names, *(f"interactions.{i}.injector.gamma" for i in range(4))}


def test_state_dict_names():
    transformer = DinoVisionTransformer(56, 14, 24, 4, 2, init_values=1.0).state_dict().keys() - {"mask_token"}
    assert tiny().state_dict().keys() == expected_names() | transformer


@pytest.mark.parametrize(
    ("embed_dim", "depth", "num_heads", "deform_num_heads", "ffn_layer"),
    [
        (384, 12, 6, 6, "mlp"),
        (768, 12, 12, 6, "mlp"),
        (1024, 24, 16, 16, "mlp"),
        (1536, 40, 24, 24, "swiglufused"),
    ],
    ids=["S", "B", "L", "g"],
)
@pytest.mark.parametrize("registers", [0, 4])
def test_all_sizes_of_dinov2_build(embed_dim, depth, num_heads, deform_num_heads, ffn_layer, registers):
    step = depth // 4
    with torch.device("meta"):
        model = DinoAdapter(
            num_heads, pretrained_vit=False, embed_dim=embed_dim, depth=depth, deform_num_heads=deform_num_heads,
            interaction_indexes=[[i * step, (i + 1) * step - 1] for i in range(4)],
            ffn_layer=ffn_layer, num_register_tokens=registers,
        )  # fmt: skip
    assert model.level_embed.shape == (3, embed_dim)
    assert model.interactions[3].extra_extractors[1].ffn.fc1.out_features == embed_dim // 4


@pytest.mark.parametrize("registers", [0, 4])
@torch.no_grad()
def test_at_the_start_the_transformer_is_undisturbed(registers):
    """gamma is zero, so the map is that of the plain DINOv2."""
    model = tiny(randomise=False, num_register_tokens=registers).eval()
    plain = DinoVisionTransformer(56, 14, 24, 4, 2, init_values=1.0, num_register_tokens=registers).eval()
    plain.load_state_dict(model.state_dict(), strict=False)
    x = images(56, 56)
    tokens = plain.forward_features(x)["x_prenorm"][:, 1 + registers :]
    assert (model(x)[1] - tokens.transpose(1, 2).unflatten(2, (4, 4))).abs().max() <= 1e-6


@torch.no_grad()
def test_every_token_looks_at_its_own_place():
    """A query at cell (row, column) of a grid refers to that cell's centre, in every level of the other side."""
    sampling = Sampling.between([(3, 5), (2, 4)], [(6, 7), (1, 2)], torch.device("cpu"))
    assert sampling.reference_points.shape == (1, 15 + 8, 2, 2)
    for index, (row, column, height, width) in {0: (0, 0, 3, 5), 8: (1, 3, 3, 5), 15 + 6: (1, 2, 2, 4)}.items():
        expected = torch.tensor([(column + 0.5) / width, (row + 0.5) / height])
        assert torch.allclose(sampling.reference_points[0, index], expected)
    assert sampling.spatial_shapes.tolist() == [[6, 7], [1, 2]]
    assert sampling.level_start_index.tolist() == [0, 42]


@torch.no_grad()
def test_add_vit_feature_adds_the_transformer_maps_at_the_size_of_each_level():
    plain, adding = tiny().eval(), tiny(add_vit_feature=True).eval()
    x = images(84, 126)
    seen = []
    for interaction in adding.interactions:
        interaction.register_forward_hook(lambda _, __, outputs: seen.append(outputs[0]))
    for f, (with_vit, without) in enumerate(zip(adding(x)[0], plain(x)[0], strict=True)):
        vit_map = seen[f][:, 1:].transpose(1, 2).unflatten(2, (6, 9))
        size = [(21, 32), (11, 16), (6, 8), (3, 4)][f]
        added = F.interpolate(vit_map, size, mode="bilinear") * getattr(adding, f"norm{f + 1}").weight.view(-1, 1, 1)
        added = (added / (1 + 1e-5) ** 0.5)[:, :, : without.shape[2], : without.shape[3]]
        assert (with_vit - without - added).abs().max() <= 1e-4


@pytest.mark.parametrize("freeze_dino", [True, False])
@pytest.mark.parametrize(
    "changes", [{}, {"num_register_tokens": 4}, {"with_cp": True}, {"add_vit_feature": True}], ids=str
)
def test_every_trainable_parameter_gets_a_gradient(freeze_dino, changes):
    """The condition of DDP without find_unused_parameters; frozen ones get none."""
    model = tiny(freeze_dino=freeze_dino, **changes)
    loss_of(model(images(45, 70))).backward()
    trained = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
    assert {name for name, parameter in model.named_parameters() if parameter.grad is not None} == trained
    assert ("blocks.0.attn.qkv.weight" in trained) == (not freeze_dino)
    assert ("pos_embed" in trained) == (not freeze_dino)
    assert "norm.weight" not in trained
    assert {"level_embed", "interactions.0.injector.gamma", "up.weight", "norm4.bias"} <= trained
    strides = {name: parameter.grad.stride() for name, parameter in model.named_parameters() if name in trained}
    assert strides == {name: p.stride() for name, p in model.named_parameters() if name in trained}  # else DDP warns
    dead = {name for name, parameter in model.named_parameters() if name in trained and not parameter.grad.any()}
    # A convolution's or projection's bias before a batch norm has no effect on the loss; nothing else may be dead.
    assert dead <= {name for name in trained if name.endswith(".bias")}


def train_two_steps_under_ddp(rendezvous):
    distributed.init_process_group("gloo", init_method=f"file://{rendezvous}", rank=0, world_size=1)
    for freeze_dino in (True, False):
        model = nn.parallel.DistributedDataParallel(tiny(freeze_dino=freeze_dino))
        optimiser = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=1e-4)
        losses = []
        for _ in range(2):  # DDP complains about unused parameters at the second forward
            optimiser.zero_grad()
            loss = loss_of(model(images(45, 70)))
            loss.backward()
            optimiser.step()
            losses.append(loss.item())
        assert losses[1] < losses[0]
    print("trained", flush=True)
    os._exit(0)  # torch 2.13 now and then hangs in destroy_process_group, on a lock between gloo's thread and Python


def test_ddp_trains_without_unused_parameters_and_without_a_warning(tmp_path):
    code = "import runpy, sys; runpy.run_path(sys.argv[1])['train_two_steps_under_ddp'](sys.argv[2])"
    command = [sys.executable, "-c", code, __file__, str(tmp_path / "rendezvous")]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert (done.returncode, done.stdout) == (0, "trained\n"), done.stderr
    assert "strides" not in done.stderr


def test_frozen_transformer_stays_in_eval_mode_while_the_adapter_trains():
    model = tiny().train()
    assert not any(module.training for module in (*model.blocks.modules(), model.patch_embed, model.norm))
    assert model.spm.training
    assert model.norm1.training
    assert model.interactions[0].training
    assert tiny(freeze_dino=False).train().blocks[0].training


def test_checkpointing_changes_memory_not_gradients():
    gradients = []
    for with_cp in (False, True):
        model = tiny(with_cp=with_cp, freeze_dino=False)
        loss_of(model(images(45, 70))).backward()
        gradients.append({name: p.grad for name, p in model.named_parameters() if p.grad is not None})
    assert gradients[0].keys() == gradients[1].keys()
    for name, gradient in gradients[0].items():
        assert torch.allclose(gradient, gradients[1][name], rtol=1e-4, atol=1e-5), name


def test_gradient_matches_finite_differences():
    """Along random directions of all parameters and the image, in float64, batch norms in training mode."""
    model = tiny(freeze_dino=False, num_register_tokens=1).double()
    leaves = [p for p in model.parameters() if p.requires_grad]
    x = images(45, 61, dtype=torch.float64).requires_grad_()
    leaves.append(x)
    gradients = torch.autograd.grad(loss_of(model(x)), leaves)
    for seed in range(3):
        generator = torch.Generator().manual_seed(seed)
        directions = [torch.randn(p.shape, dtype=torch.float64, generator=generator) for p in leaves]
        analytic = sum((g * d).sum() for g, d in zip(gradients, directions, strict=True)).item()
        values = []
        for step in (1e-7, -2e-7):
            with torch.no_grad():
                for leaf, direction in zip(leaves, directions, strict=True):
                    leaf.add_(direction, alpha=step)
                values.append(loss_of(model(x)).item())
        with torch.no_grad():
            for leaf, direction in zip(leaves, directions, strict=True):
                leaf.add_(direction, alpha=1e-7)
        assert (values[0] - values[1]) / 2e-7 == pytest.approx(analytic, rel=1e-4)


@pytest.mark.parametrize(
    ("device", "dtype"),
    [
        ("cpu", torch.bfloat16),
        pytest.param("cuda", torch.bfloat16, marks=pytest.mark.cuda),
        pytest.param("cuda", torch.float16, marks=pytest.mark.cuda),
    ],
)
def test_autocast_stays_close_to_float32_and_trains(device, dtype):
    model = tiny().to(device).eval()
    x = images(84, 126).to(device)
    maps, vit_map = model(x)
    with torch.autocast(device, dtype):
        half_maps, half_vit_map = model(x)
        loss = loss_of((half_maps, half_vit_map))
    loss.backward()
    assert all(p.grad.isfinite().all() for p in model.parameters() if p.requires_grad)
    for got, want in zip([*half_maps, half_vit_map], [*maps, vit_map], strict=True):
        assert (got.float() - want).norm() <= 0.03 * want.norm()


@torch.no_grad()
def test_attention_back_ends_agree_through_the_whole_model():
    model, x = tiny().eval(), images(45, 70)
    expected = model(x)
    names = ["math"]
    if importlib.util.find_spec("xformers"):
        names.append("xformers")  # heads of 12 channels: within what it runs on a CPU
    for name in names:
        with use_backend(name):
            for got, want in zip((*model(x)[0], model(x)[1]), (*expected[0], expected[1]), strict=True):
                assert (got - want).abs().max() <= 1e-5 * want.abs().max()


@pytest.mark.skipif(not hasattr(torch, "compiler"), reason="torch 2.0 cannot tell that it compiles")
@torch.no_grad()
def test_compiles_whole():
    model, x = tiny().eval(), images(45, 70)
    compiled = torch.compile(model, backend="eager", fullgraph=True)
    for got, want in zip((*compiled(x)[0], compiled(x)[1]), (*model(x)[0], model(x)[1]), strict=True):
        assert (got - want).abs().max() <= 1e-5 * want.abs().max()


def test_sync_batch_norm_conversion_keeps_the_state_dict():
    model = tiny()
    names = model.state_dict().keys()
    converted = nn.SyncBatchNorm.convert_sync_batchnorm(copy.deepcopy(model))
    assert converted.state_dict().keys() == names
    assert isinstance(converted.spm.stem[1], nn.SyncBatchNorm)


def test_without_feed_forward_or_extra_extractors():
    model = tiny(with_cffn=False, use_extra_extractor=False, deform_ratio=0.5)
    assert not any("ffn" in name or "extra_extractors" in name for name in model.state_dict() if "interactions" in name)
    assert model.interactions[0].injector.attn.value_proj.out_features == 12
    loss_of(model(images(45, 70))).backward()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"deform_num_heads": 5}, r"embed_dim 24 .* does not divide by deform_num_heads 5; 4, 6, 8, 12, 24 would do"),
        ({"deform_ratio": 0.25, "deform_num_heads": 12}, r"times deform_ratio 0.25\) does not divide"),
        ({"num_heads": 7}, "embed_dim 24 does not divide by num_heads 7"),
        ({"interaction_indexes": [[0, 1], [3, 3]]}, "together all blocks from 0 to 3"),
        ({"interaction_indexes": [[0, 2], [2, 3]]}, "together all blocks from 0 to 3"),
        ({"interaction_indexes": [[2, 3], [0, 1]]}, "together all blocks from 0 to 3"),
        ({"interaction_indexes": [[0, 4]]}, "together all blocks from 0 to 3"),
        ({"interaction_indexes": [[0, 3], []]}, "together all blocks from 0 to 3"),
        ({"interaction_indexes": [[0, 3]], "add_vit_feature": True}, "interaction_indexes has 1 groups"),
        ({"pretrained": "somewhere.pth"}, "pretrained='somewhere.pth' was given together with pretrained_vit=False"),
    ],
    ids=str,
)
def test_impossible_arguments_are_named(changes, message):
    with pytest.raises(ValueError, match=message):
        tiny(**changes)


def test_an_image_smaller_than_the_coarsest_stride_is_refused():
    with pytest.raises(ValueError, match="an image of 31x64 is smaller than the 32 pixels of the coarsest stride"):
        tiny()(images(31, 64))
