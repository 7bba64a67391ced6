"""Do torch and the compiled extensions load? Asked in a process of its own, so that a crash is an answer too."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

TIME_LIMIT = 30  # seconds; torch takes 2, from a cold disk 15

# Each extension is loaded from its file, without the Python layers above it, which take seconds.
_MARK = "\n--- racdino doctor ---\n"  # what imports print comes before it
_PROBE = """
import glob, importlib.machinery, importlib.util, json, os, sys
answer = {"torch": {}, "errors": {}, "files": {}}
def say(): sys.stdout.write("\\n--- racdino doctor ---\\n" + json.dumps(answer)); sys.stdout.flush()
where = importlib.util.find_spec
try:
    import torch
    answer["torch"] = {"version": torch.__version__, "cuda": torch.version.cuda, "abi": torch._C._GLIBCXX_USE_CXX11_ABI}
except BaseException as error:
    answer["errors"]["torch"] = f"{type(error).__name__}: {error}"
    say(); sys.exit()
def load(name, files):
    # All that follows the name: the last of the suffixes is a plain ".so", and every tagged name ends so too.
    suffixes = importlib.machinery.EXTENSION_SUFFIXES
    usable = [file for file in files if os.path.basename(file).partition(".")[2] in [s[1:] for s in suffixes]]
    answer["files"][name] = sorted(files)
    if not usable:
        answer["errors"][name] = "not compiled" if not files else "compiled for another Python"
        return
    try:
        if name in ("xformers._C", "torchvision._C"):  # libraries of operators, no modules
            torch.ops.load_library(usable[0])
            return
        module_name = os.path.basename(usable[0]).split(".")[0]
        spec = importlib.util.spec_from_file_location(module_name, usable[0])
        importlib.util.module_from_spec(spec)
    except BaseException as error:
        answer["errors"][name] = f"{type(error).__name__}: {error}"
for name, package, pattern in [
    ("mmcv._ext", "mmcv", "_ext.*.so"),
    ("torchvision._C", "torchvision", "_C.so"), ("xformers._C", "xformers", "_C.so"),
    ("cumm.core_cc", "cumm", "core_cc.*.so"), ("spconv.core_cc", "spconv", "core_cc.*.so"),  # which needs cumm's
]:
    spec = where(package)
    for folder in list(spec.submodule_search_locations or ())[:1] if spec else []:
        load(name, glob.glob(os.path.join(glob.escape(folder), pattern)))
if where("racdino"):
    try:
        import racdino.ops  # which also knows whether the file is of these sources
    except BaseException as error:
        answer["errors"]["racdino._C"] = f"{type(error).__name__}: {error}"
spec = where("flash_attn_2_cuda")
if spec and spec.origin:
    load("flash_attn_2_cuda", [spec.origin])
spec = where("MultiScaleDeformableAttention")
answer["op"] = spec.origin if spec else None
say()
"""


@dataclass(frozen=True)
class Loads:
    """The answer.

    Attributes:
        torch: ``version``, ``cuda`` and ``abi`` of torch; empty where it does not import.
        errors: why something does not load, by ``torch``, ``racdino._C``, ``mmcv._ext``, ...
        files: the compiled files that lie there, by the same names; what is not installed is not named.
        op: the file that ``import MultiScaleDeformableAttention`` takes.
        crash: how the process ended when it did not answer.
    """

    torch: dict[str, Any] = field(default_factory=dict)
    errors: dict[str, str] = field(default_factory=dict)
    files: dict[str, list[str]] = field(default_factory=dict)
    op: str | None = None
    crash: str = ""


def load_all(python: str, variables: Mapping[str, str]) -> Loads:
    """Run the probe with one interpreter."""
    try:
        run = subprocess.run(
            [python, "-c", _PROBE],
            cwd="/",
            env=dict(variables),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            encoding="utf-8",
            errors="replace",
            timeout=TIME_LIMIT,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return Loads(crash=f"importing torch and the extensions took longer than {TIME_LIMIT} s")
    except OSError as error:
        return Loads(crash=f"{python} does not start: {error.strerror}")
    if run.returncode:
        said = (run.stderr.strip().splitlines() or ["without a word"])[-1]
        return Loads(crash=f"importing torch and the extensions ended with status {run.returncode}: {said}")
    begin = run.stdout.find(_MARK)
    if begin < 0:
        return Loads(crash="importing torch and the extensions ended without an answer")
    return Loads(**json.loads(run.stdout[begin + len(_MARK) :]))
