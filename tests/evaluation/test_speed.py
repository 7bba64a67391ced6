"""racdino/evaluation/speed.py: medians and tails are what a hand calculation says, the warm-up left out."""

from __future__ import annotations

import json
import time

import pytest

from racdino.evaluation.speed import WARM_UP, Stopwatch


def nothing() -> None:
    pass


def watch_of(model: list[float], whole: list[float], sizes: list[int]) -> Stopwatch:
    watch = Stopwatch(nothing)
    watch.model, watch.whole, watch.sizes = model, whole, sizes
    return watch


def test_warm_up_batches_do_not_count():
    slow = [9.0] * WARM_UP
    speed = watch_of([*slow, *[0.1] * 10], [*slow, *[0.2] * 10], [1] * (WARM_UP + 10)).speed("CPU", 1)
    assert speed.model.median == pytest.approx(0.1)
    assert speed.model.samples_per_second == pytest.approx(10)
    assert speed.with_loading.samples_per_second == pytest.approx(5)
    assert (speed.batches, speed.warm_up) == (10, WARM_UP)


def test_of_few_batches_half_are_the_warm_up():
    speed = watch_of([5, 5, 1, 1], [5, 5, 1, 1], [1] * 4).speed("CPU", 1)
    assert (speed.batches, speed.warm_up) == (2, 2)
    assert speed.model.median == 1
    single = watch_of([3], [4], [1]).speed("CPU", 1)
    assert (single.batches, single.warm_up, single.model.median) == (1, 0, 3)


def test_median_and_p90_are_per_sample_also_where_the_last_batch_is_smaller():
    seconds = [0.0] * WARM_UP + [2 * each for each in range(1, 10)] + [10]
    speed = watch_of(seconds, seconds, [2] * (WARM_UP + 9) + [1]).speed("CPU", 1)
    # Per sample: 1 to 9, and 10 from the batch of one.
    assert speed.model.median == 5.5
    assert speed.model.p90 == 9
    assert speed.model.samples_per_second == pytest.approx(19 / 100)
    assert speed.batch_size == 2


def test_no_batch_has_no_speed():
    assert Stopwatch(nothing).speed("CPU", 1) is None


def test_the_device_is_waited_for_before_and_after_the_model():
    calls = []
    watch = Stopwatch(lambda: calls.append("wait"))
    with watch.running_model():
        calls.append("model")
        time.sleep(0.02)
    time.sleep(0.02)
    watch.end_batch(1)
    assert calls == ["wait", "model", "wait"]
    assert 0.02 <= watch.model[0] < watch.whole[0]
    assert watch.whole[0] >= 0.04


def test_table_and_json_hold_the_numbers():
    speed = watch_of([0.08] * 12, [0.1] * 12, [1] * 12).speed("GPU X", 3 << 30)
    assert json.loads(json.dumps(speed.as_json()))["model"]["median"] == pytest.approx(0.08)
    table = speed.table()
    assert "GPU X, batches of 1, 7 measured after 5; peak memory 3.00 GiB" in table
    assert "80.0 ms median" in table
    assert "12.50 FPS" in table
    assert "10.00 FPS" in table
