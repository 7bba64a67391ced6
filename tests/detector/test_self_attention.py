"""Self attention equals torch's where heads have no reach, and its formula where they have."""

from __future__ import annotations

import torch
from torch import nn

from racdino.detector.decoder.coordinates import Coordinates
from racdino.detector.decoder.keyed_dropout import KeyedDropout
from racdino.detector.decoder.self_attention import ScaleAdaptiveSelfAttention
from racdino.detector.randomness import SampleRandom

COORDINATES = Coordinates.of([-51.2, -51.2, -5.0, 51.2, 51.2, 3.0])
SILENT = KeyedDropout(None, torch.arange(6), 2)


def make(zero_tau: bool):
    torch.manual_seed(0)
    attention = ScaleAdaptiveSelfAttention(32, 4, 0.1, COORDINATES).double()
    if zero_tau:
        nn.init.zeros_(attention.gen_tau.bias)
    else:
        nn.init.normal_(attention.gen_tau.weight)
    box = torch.rand(2, 6, 10, dtype=torch.float64)
    return attention, box, torch.randn(2, 6, 32, dtype=torch.float64)


def test_without_reach_it_is_torchs_multihead_attention_with_the_same_weights():
    attention, box, query = make(zero_tau=True)
    torchs = nn.MultiheadAttention(32, 4, batch_first=True).double()
    torchs.load_state_dict(attention.attention["attn"].state_dict(), strict=True)
    hidden = torch.zeros(1, 6, 6, dtype=torch.bool)
    hidden[:, 2:, :2] = True
    expected, _ = torchs(query, query, query, attn_mask=hidden[0])
    torch.testing.assert_close(attention(box, query, hidden, SILENT, 0), query + expected)


def test_each_heads_logits_fall_with_the_distance_in_metres():
    attention, box, query = make(zero_tau=False)
    attn = attention.attention["attn"]
    expected = torch.zeros_like(query)
    for b in range(2):
        xy = [
            [51.2 / 51.2 * 65 * d * trigonometric(theta * 2 * torch.pi) for trigonometric in (torch.cos, torch.sin)]
            for theta, d in box[b, :, :2]
        ]
        projected = query[b] @ attn.in_proj_weight.T + attn.in_proj_bias
        q, k, v = projected.split(32, dim=-1)
        for i in range(6):
            tau = attention.gen_tau.weight @ query[b, i] + attention.gen_tau.bias
            heads = []
            for head in range(4):
                part = slice(8 * head, 8 * head + 8)
                logits = torch.stack(
                    [
                        q[i, part] @ k[j, part] / 8**0.5
                        - tau[head]
                        * sum((xy[i][a].clamp(-51.2, 51.2) - xy[j][a].clamp(-51.2, 51.2)) ** 2 for a in (0, 1)).sqrt()
                        for j in range(6)
                    ]
                )
                heads.append(logits.softmax(0) @ v[:, part])
            expected[b, i] = query[b, i] + attn.out_proj(torch.cat(heads))
    torch.testing.assert_close(attention(box, query, None, SILENT, 0), expected)


def test_dropout_acts_on_the_attention_weights_of_training_only():
    attention, box, query = make(zero_tau=True)
    random = KeyedDropout(SampleRandom([1, 2]), torch.arange(6), 2)
    first, second = (attention(box, query, None, random, 0) for _ in range(2))
    assert torch.equal(first, second)
    assert not torch.allclose(first, attention(box, query, None, SILENT, 0))
    assert not torch.allclose(first, attention(box, query, None, random, 1))
