"""``report.json`` for programs and ``report.html`` for people: one file each, nothing loaded from elsewhere."""

from __future__ import annotations

import base64
import dataclasses
import datetime
import io
import json
import os
import platform
import tempfile
from pathlib import Path
from typing import Any

import jinja2
import numpy as np
import torch
from PIL import Image

import racdino
from racdino.verify import installed
from racdino.verify.backbone_run import Forward, Model
from racdino.verify.errors import VerifyError
from racdino.verify.fingerprint import Fingerprint
from racdino.verify.frame import CAMERAS, Frame, crop
from racdino.verify.pca import rgb_maps
from racdino.verify.table import Table

SHOWN_MAPS = ((4, "ViT map, stride 14"), (1, "f2, stride 8"))  # index into Forward.features, caption
PLACES = ("FRONT_LEFT", "FRONT", "FRONT_RIGHT", "BACK_LEFT", "BACK", "BACK_RIGHT")  # on the page, row by row


def collect(
    table: Table,
    frame: Frame | None,
    model: Model | None,
    result: Forward | None,
    seconds: dict[str, float],
    fingerprint: Fingerprint | None,
) -> dict[str, Any]:
    """Everything but the pictures, as plain data; what a failed check did not produce is None."""
    return {
        "schema": 1,
        "racdino": racdino.__version__,
        "created": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
        "passed": not table.failed,
        "seconds": round(table.seconds, 1),
        "machine": machine(),
        "versions": installed.versions(),
        "rows": [dataclasses.asdict(row) for row in table.rows],
        "frame": frame and {"name": frame.name, "synthetic": frame.synthetic, "cameras": list(CAMERAS)},
        "backbone": model
        and {"weights": model.weights, "random": model.random, "device": str(model.device), "seconds": seconds},
        "fingerprint": fingerprint and fingerprint.as_json(),
    }


def machine() -> dict[str, Any]:
    """What the timings depend on."""
    gpus = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
    return {
        "system": platform.platform(terse=True),
        "processor": _processor(),
        "cores": len(os.sched_getaffinity(0)),
        "threads": torch.get_num_threads(),
        "gpus": gpus,
    }


def write(output: Path, content: dict[str, Any], frame: Frame | None, result: Forward | None) -> str:
    """Write both files, each appearing whole or not at all.

    Raises:
        VerifyError: the folder cannot be written.
    """
    try:
        _replace(output / "report.json", json.dumps(content, indent=1, ensure_ascii=False) + "\n")
        _replace(output / "report.html", html(content, frame, result))
    except OSError as error:
        raise VerifyError(f"the report cannot be written to {output}: {error.strerror}.") from error
    return str(output / "report.html")


def html(content: dict[str, Any], frame: Frame | None, result: Forward | None) -> str:
    """The page: pictures as data, styles inside, no script."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent), autoescape=True, trim_blocks=True, lstrip_blocks=True
    )
    return environment.get_template("report.html").render(**content, cameras=_cameras(frame, result))


def _cameras(frame: Frame | None, result: Forward | None) -> list[dict[str, Any]]:
    if frame is None:
        return []
    maps = [(caption, rgb_maps(result.features[index])) for index, caption in SHOWN_MAPS] if result else []
    return [
        {
            "name": camera,
            "image": _data_uri(crop(frame.images[i]), "JPEG"),
            "maps": [(caption, _data_uri(pictures[i], "PNG")) for caption, pictures in maps],
        }
        for camera, i in ((camera, CAMERAS.index(camera)) for camera in PLACES)
    ]


def _data_uri(image: np.ndarray, kind: str) -> str:
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, kind, **({"quality": 85} if kind == "JPEG" else {"optimize": True}))
    return f"data:image/{kind.lower()};base64,{base64.b64encode(buffer.getvalue()).decode()}"


def _processor() -> str:
    lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines() if Path("/proc/cpuinfo").is_file() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


def _replace(path: Path, text: str) -> None:
    """Write beside ``path``, then move: a reader never sees half a file, and a failure leaves the old one."""
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    temporary = Path(name)
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(text)
        temporary.chmod(0o644)
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
