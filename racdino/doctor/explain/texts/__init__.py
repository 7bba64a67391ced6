"""The known texts, by theme. A key stays what it is once committed; its first digit is that of the doctor's group."""

from __future__ import annotations

from racdino.doctor.explain.known import Known
from racdino.doctor.explain.texts import (
    attention,
    building,
    configs,
    data,
    extensions,
    gpu,
    imports,
    limits,
    machine,
    network,
    packages,
    training,
    versions,
)

THEMES: tuple[tuple[str, tuple[Known, ...]], ...] = (
    ("Containers, driver and platform", machine.KNOWN),
    ("GPU", gpu.KNOWN),
    ("Versions of Python packages", versions.KNOWN),
    ("Installing packages", packages.KNOWN),
    ("Compiling extensions", building.KNOWN),
    ("Loading extensions", extensions.KNOWN),
    ("Attention back ends", attention.KNOWN),
    ("Imports", imports.KNOWN),
    ("Configs and shapes", configs.KNOWN),
    ("Data and weights", data.KNOWN),
    ("Run-time limits", limits.KNOWN),
    ("Network", network.KNOWN),
    ("Training and several processes", training.KNOWN),
)
ALL: tuple[Known, ...] = tuple(known for _, theme in THEMES for known in theme)
