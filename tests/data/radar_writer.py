"""Radar sweeps in nuScenes' layout, written independently of the reader under test: struct, one point at a time."""

from __future__ import annotations

import struct

FIELDS = (
    "x y z dyn_prop id rcs vx vy vx_comp vy_comp is_quality_valid ambig_state "
    "x_rms y_rms invalid_state pdh0 vx_rms vy_rms"
)
HEADER = (
    "# .PCD v0.7 - Point Cloud Data file format\nVERSION 0.7\nFIELDS {fields}\n"
    "SIZE 4 4 4 1 2 4 4 4 4 4 1 1 1 1 1 1 1 1\nTYPE F F F I I F F F F F I I I I I I I I\n"
    "COUNT 1 1 1 1 1 1 1 1 1 1 1 1 1 1 1 1 1 1\nWIDTH {width}\nHEIGHT {height}\nVIEWPOINT 0 0 0 1 0 0 0\n"
    "POINTS {width}\nDATA {data}\n"
)
POINT = struct.Struct("<fffbhfffffbbbbbbbb")


def radar_bytes(points, fields=FIELDS, height=1, data="binary", tail=b"\n"):
    """``points``: rows of 18 numbers. ``tail``: the devkit asks for at least one byte behind the last point."""
    header = HEADER.format(fields=fields, width=len(points), height=height, data=data)
    return header.encode() + b"".join(POINT.pack(*point) for point in points) + tail
