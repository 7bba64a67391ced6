"""The head as a whole: batches, denoising, losses, detections."""

from __future__ import annotations

import pytest
import torch
from small_head import find, keyed, make_head, make_inputs, make_targets, of_sample, total

from racdino.detector.decoder.coordinates import code_from_boxes
from racdino.detector.head import HeadOutput


def train(head, inputs, targets, random):
    return find(head.train(), inputs, targets, random)


def test_without_targets_a_batch_of_two_is_two_batches_of_one():
    head, inputs = make_head().eval(), make_inputs()
    both = find(head, inputs)
    assert both.denoising is None
    for index in range(2):
        alone = find(head, of_sample(inputs, index))
        torch.testing.assert_close(alone.logits[:, 0], both.logits[:, index])
        torch.testing.assert_close(alone.codes[:, 0], both.codes[:, index])


def test_in_training_a_batch_of_two_is_two_batches_of_one_with_other_numbers_of_objects():
    head, inputs, (boxes, labels) = make_head(), make_inputs(), make_targets((2, 5))
    both = train(head, inputs, (boxes, labels), keyed(11, 12))
    for index, count in enumerate((2, 5)):
        part = slice(index, index + 1)
        alone = train(head, of_sample(inputs, index), (boxes[part], labels[part]), keyed(11 + index))
        torch.testing.assert_close(alone.logits[:, 0], both.logits[:, index])
        torch.testing.assert_close(alone.codes[:, 0], both.codes[:, index])
        for name in ("denoising_logits", "denoising_codes"):
            padded = getattr(both, name)[:, index].unflatten(1, (3, 5))[:, :, :count].flatten(1, 2)
            torch.testing.assert_close(getattr(alone, name)[:, 0], padded)


def test_losses_of_a_batch_of_two_are_those_of_two_of_one_weighted_by_their_objects():
    head, inputs, (boxes, labels) = make_head(), make_inputs(), make_targets((2, 5))
    losses = head.loss(train(head, inputs, (boxes, labels), keyed(11, 12)), boxes, labels)
    expected = dict.fromkeys(losses, 0.0)
    for index, count in enumerate((2, 5)):
        part = slice(index, index + 1)
        output = train(head, of_sample(inputs, index), (boxes[part], labels[part]), keyed(11 + index))
        for name, loss in head.loss(output, boxes[part], labels[part]).items():
            expected[name] += float(loss) * count / 7
    assert {name: float(loss) for name, loss in losses.items()} == pytest.approx(expected)


def test_the_loss_names_are_upstreams():
    head, inputs, targets = make_head(), make_inputs(), make_targets()
    losses = head.loss(train(head, inputs, targets, keyed(1, 2)), *targets)
    names = ["loss_cls", "loss_bbox", "loss_cls_dn", "loss_bbox_dn"]
    assert sorted(losses) == sorted(names + ["d0." + name for name in names])
    assert all(loss.isfinite() and loss > 0 for loss in losses.values())


def test_denoising_groups_do_not_see_each_other_and_ordinary_queries_see_none(monkeypatch):
    head, inputs, targets = make_head(), make_inputs(), make_targets()
    before = train(head, inputs, targets, keyed(1, 2))
    from racdino.detector import head as module

    original = module.make_denoising_queries

    def disturbed(*arguments):
        queries = original(*arguments)
        queries.boxes[:, 5:10, 1] = 0.9  # the second of three groups of five slots
        queries.labels[:, 5:10] = 3 - queries.labels[:, 5:10]
        return queries

    monkeypatch.setattr(module, "make_denoising_queries", disturbed)
    after = train(head, inputs, targets, keyed(1, 2))
    assert torch.equal(after.logits, before.logits)
    assert torch.equal(after.codes, before.codes)
    same = (after.denoising_logits == before.denoising_logits).all(-1).all(0)
    assert same[:, :5].all()
    assert same[:, 10:].all()
    assert not same[0, 5:7].any()  # the two objects of the first sample


def test_ordinary_queries_are_the_same_with_and_without_denoising():
    head, inputs, targets = make_head(), make_inputs(), make_targets()
    with_dn = train(head, inputs, targets, keyed(1, 2))
    without = train(head, inputs, None, keyed(1, 2))
    torch.testing.assert_close(with_dn.logits, without.logits)
    torch.testing.assert_close(with_dn.codes, without.codes)


def test_recomputing_activations_changes_nothing():
    results = []
    for with_cp in (True, False):
        head, inputs, targets = make_head(transformer={"with_cp": with_cp}), make_inputs(), make_targets()
        inputs[0][0].requires_grad_()
        loss = total(head.loss(train(head, inputs, targets, keyed(1, 2)), *targets))
        loss.backward()
        results.append([loss.detach(), inputs[0][0].grad, *(p.grad for p in head.parameters())])
    for kept, recomputed in zip(*results, strict=True):
        torch.testing.assert_close(kept, recomputed, rtol=1e-10, atol=1e-12)


def test_every_parameter_has_a_gradient_so_that_no_process_waits_for_one():
    for counts in ((2, 5), (0, 0)):
        head, inputs, targets = make_head(), make_inputs(), make_targets(counts)
        total(head.loss(train(head, inputs, targets, keyed(1, 2)), *targets)).backward()
        missing = [name for name, parameter in head.named_parameters() if parameter.grad is None]
        assert missing == []
        assert all(parameter.grad.isfinite().all() for parameter in head.parameters())


def test_two_runs_are_bitwise_the_same():
    results = []
    for _ in range(2):
        head, inputs, targets = (
            make_head(torch.float32),
            make_inputs(dtype=torch.float32),
            make_targets((3, 1), torch.float32),
        )
        total(head.loss(train(head, inputs, targets, keyed(1, 2)), *targets)).backward()
        results.append([parameter.grad for parameter in head.parameters()])
    assert all(torch.equal(first, second) for first, second in zip(*results, strict=True))


def test_the_gradient_of_the_loss_is_that_of_finite_differences():
    # One layer: between layers boxes pass without gradient, and differences see them all the same. 24 queries on rays
    # 0, 3, ... look the same way each time; the assignment is constant in a small neighbourhood.
    head = make_head(transformer={"num_layers": 1, "d_region_list": [0.08]}).train()
    inputs, targets = make_inputs(1), make_targets((3,))
    features, lss, radar, *rest = inputs
    lss.requires_grad_()

    def loss(lss):
        return total(head.loss(find(head, (features, lss, radar, *rest), targets, keyed(4)), *targets))

    assert torch.autograd.gradcheck(loss, lss, fast_mode=True, atol=1e-7)


def test_a_perfect_prediction_costs_no_box_loss_and_keeps_its_object():
    head, (boxes, labels) = make_head(), make_targets((2, 3))
    logits = torch.full((1, 2, 24, 4), -20.0, dtype=torch.float64)
    codes = torch.randn(1, 2, 24, 10, dtype=torch.float64) + 100
    for sample in range(2):
        for index, label in enumerate(labels[sample]):
            logits[0, sample, 7 * index + 1, label] = 20.0
            codes[0, sample, 7 * index + 1] = code_from_boxes(boxes[sample])[index]
    output = HeadOutput(logits, codes)
    losses = head.loss(output, boxes, labels)
    assert {name: float(loss) for name, loss in losses.items()} == pytest.approx(
        {"loss_cls": 0, "loss_bbox": 0}, abs=1e-9
    )
    detections = head.decode(output)
    for sample in range(2):
        found = {
            int(label): box for box, label in zip(detections[sample].boxes, detections[sample].labels, strict=True)
        }
        assert sorted(detections[sample].labels.tolist()) == sorted(labels[sample].tolist())
        for box, label in zip(boxes[sample], labels[sample], strict=True):
            if labels[sample].tolist().count(int(label)) == 1:
                torch.testing.assert_close(found[int(label)], box)


def test_unknown_velocities_leave_a_box_out_of_the_box_loss_only():
    head, inputs, (boxes, labels) = make_head(), make_inputs(), make_targets((2, 3))
    boxes[0][1, 7:] = float("nan")
    losses = head.loss(train(head, inputs, (boxes, labels), keyed(1, 2)), boxes, labels)
    assert all(loss.isfinite() for loss in losses.values())


def test_a_loss_that_is_not_finite_is_not_hidden():
    head, inputs, targets = make_head(), make_inputs(), make_targets()
    inputs[2][:] = float("nan")  # radar BEV
    losses = head.loss(train(head, inputs, targets, keyed(1, 2)), *targets)
    assert not any(loss.isfinite() for loss in losses.values())
    with pytest.raises(FloatingPointError, match="scores are not finite"):
        head.decode(find(head.eval(), inputs))


@pytest.mark.parametrize(
    ("keywords", "message"),
    [
        ({"in_channels": 32}, "in_channels of the head is 32; .* must be 16"),
        ({"num_query": 25}, "num_query of the head is 25; with num_clusters 3 .* must be 24"),
        ({"num_classes": 5}, "num_classes of the head is 5"),
        ({"code_weights": [1.0]}, "code_weights has 1 numbers"),
        ({"transformer": {"d_region_list": [0.1]}}, "d_region_list has 1 numbers for 2 decoder layers"),
        ({"transformer": {"embed_dims": 18}}, "embed_dims 18 must divide by 4"),
        ({"transformer": {"code_size": 8}}, "code_size is 8; a query box has 10 numbers"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_numbers_that_do_not_fit_are_refused_by_name(keywords, message):
    with pytest.raises(ValueError, match=message):
        make_head(**keywords)


def test_inputs_that_do_not_fit_are_refused_by_name():
    head = make_head()
    features, lss, radar, lidar2img, times, size = make_inputs()
    with pytest.raises(ValueError, match="made for 2 feature levels and got 1"):
        find(head, (features[:1], lss, radar, lidar2img, times, size))
    with pytest.raises(ValueError, match="5 images do not divide into the decoder's 2 frames"):
        find(head, (features, lss, radar, lidar2img[:, :5], times, size))
    with pytest.raises(ValueError, match="give the head a SampleRandom"):
        head.queries(2, make_targets())


@pytest.mark.cuda
def test_a_gpu_computes_what_a_cpu_does_dropout_and_noise_included():
    results = []
    for device in ("cpu", "cuda"):
        head, inputs, (boxes, labels) = make_head().to(device), make_inputs(), make_targets()
        features, *maps, size = inputs
        moved = ([level.to(device) for level in features], *(x.to(device) for x in maps), size)
        targets = [box.to(device) for box in boxes], [label.to(device) for label in labels]
        losses = head.loss(train(head, moved, targets, keyed(1, 2)), *targets)
        total(losses).backward()
        gradients = [parameter.grad for parameter in head.parameters()]
        results.append([*losses.values(), *gradients])
    for on_cpu, on_gpu in zip(*results, strict=True):
        torch.testing.assert_close(on_gpu.cpu(), on_cpu, rtol=1e-7, atol=1e-9)
