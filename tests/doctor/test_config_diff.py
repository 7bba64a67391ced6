"""Differences between configs are found at the leaf, lists are aligned, and the adapter's keys are told apart."""

from __future__ import annotations

import pytest

from racdino.doctor.config_diff import ABSENT, Difference, differences
from racdino.doctor.unknown import Unknown

PIPELINE = [{"type": "Load", "n": 1}, {"type": "Crop", "size": [1, 2]}, {"type": "Collect", "keys": ["a", "b"]}]


@pytest.mark.parametrize(
    ("baseline", "value", "keys"),
    [
        ({"a": 1, "b": {"c": 2}}, {"a": 1, "b": {"c": 2}}, []),
        ({"b": {"c": 2}}, {"b": {"c": 3}}, ["b.c"]),
        ({"a": 1}, {}, ["a"]),
        ({}, {"a": 1}, ["a"]),
        ({"a": (1, 2)}, {"a": [1, 2]}, []),  # json and yaml configs have no tuples
        ({"a": [1, 2]}, {"a": [1, 2, 3]}, ["a"]),
        ({"a": None}, {"a": 0}, ["a"]),
        ({"a": {"b": 1}}, {"a": [1]}, ["a"]),
        ({"p": PIPELINE}, {"p": [PIPELINE[0], {"type": "New"}, *PIPELINE[1:]]}, ["p[1]"]),
        ({"p": PIPELINE}, {"p": PIPELINE[1:]}, ["p[0]"]),
        ({"p": PIPELINE}, {"p": [PIPELINE[0], {"type": "Crop", "size": [1, 3]}, PIPELINE[2]]}, ["p[1].size"]),
        ({"p": PIPELINE}, {"p": [PIPELINE[0], {"type": "Mine", "size": [1, 2]}, PIPELINE[2]]}, ["p[1].type"]),
        ({"h": [{"type": "A", "inner": PIPELINE}]}, {"h": [{"type": "A", "inner": PIPELINE[:2]}]}, ["h[0].inner[2]"]),
    ],
)
def test_the_keys_that_differ(baseline, value, keys):
    assert [difference.key for difference in differences(baseline, value)] == keys


def test_an_absent_side_is_marked():
    (difference,) = differences({"a": 1}, {})
    assert (difference.baseline, difference.value) == ("1", ABSENT)


@pytest.mark.parametrize(
    ("path", "of_adapter"),
    [
        (("dinov2_adapter",), True),
        (("model", "dinov2_adapter", "depth"), True),
        (("optimizer", "paramwise_cfg", "custom_keys", "dinov2_adapter", "lr_mult"), True),
        (("model", "adapter"), False),
        (("my_dinov2_lr",), False),
    ],
)
def test_what_belongs_to_the_adapter(path, of_adapter):
    assert Difference(path, ABSENT, "1").of_adapter is of_adapter


@pytest.mark.parametrize(
    ("baseline", "value"),
    [
        ({"a": 1}, {"a": Unknown(3, "a loop")}),
        ({"a": Unknown(3, "a loop")}, {"a": {"b": 1}}),
        ({"a": [1, 2]}, {"a": [1, Unknown(3, "a call")]}),
    ],
)
def test_what_only_running_a_config_could_tell_is_not_compared(baseline, value):
    assert list(differences(baseline, value)) == []
