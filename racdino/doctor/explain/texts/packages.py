"""What pip and uv say."""

from __future__ import annotations

from racdino.doctor.explain.known import Known

KNOWN = (
    Known(
        "RX331",
        ("THESE PACKAGES DO NOT MATCH THE HASHES",),
        "a downloaded file is not the one that the lock names: cut off on its way, or replaced by a proxy or mirror",
        "`python -m pip cache purge` and install again; where it stays so, ask who runs the mirror; never drop the "
        "hashes",
        "pytorch#110847, #78420",
    ),
    Known(
        "RX332",
        ("Hash mismatch for `…`",),
        "the file of {0} is not the one that the lock names: cut off on its way, or replaced by a proxy or mirror",
        "`uv cache clean` and `make setup`; where it stays so, ask who runs the mirror; never drop the hashes",
        "pytorch#110847, #172628",
    ),
    Known(
        "RX333",
        ("Could not find a version that satisfies the requirement torch==…+cu118",),
        "torch {0}+cu118 is not in the package index but in PyTorch's own",
        "`make setup` takes it by address and hash; by hand `python -m pip install torch==2.0.0+cu118 --index-url "
        "https://download.pytorch.org/whl/cu118`, with Python 3.8 to 3.11",
        "pixi#2398; uv#2328",
    ),
    Known(
        "RX334",
        (
            "Could not find a version that satisfies the requirement mmcv-full",
            "No matching distribution found for mmcv-full",
        ),
        "there is no wheel of mmcv-full 1.6.0 for torch 2.0 and CUDA 11.8 in OpenMMLab's index",
        "compile it: `make setup` does and keeps the result",
        "SparseBEV#81; SparseOcc#32",
    ),
    Known(
        "RX335",
        ("was found on https://download.pytorch.org/…, but not at the requested version",),
        "uv takes every package from the first index that has it, and PyTorch's has old copies of some",
        "name that index `explicit = true` in [[tool.uv.index]] and torch in [tool.uv.sources]; `make setup` needs no "
        "such index",
        "uv#12620; cuvis-ai PR 82",
    ),
    Known(
        "RX336",
        ("Cannot install on Python version 3.1…; only versions",),
        "numba 0.53.0, which mmdet3d 1.0.0rc6 asks for, is only for Python before 3.10",
        "install mmdet3d with `--no-deps` beside numba 0.56.4, as `make setup` does",
        "mmdet3d PR 2416",
    ),
    Known(
        "RX337",
        ("Building llvmlite requires LLVM",),
        "pip tries to compile an llvmlite that has no wheel for this Python",
        "`python -m pip install numba==0.56.4 llvmlite==0.39.1`, which have wheels up to Python 3.10",
        "mmdet3d#631",
    ),
    Known(
        "RX338",
        ("No module named 'torch'",),
        "the package's setup.py imports torch, and pip builds it in an environment of its own without torch",
        "`python -m pip install --no-build-isolation ...` after torch, setuptools==69.5.1, wheel==0.43.0 and ninja are "
        "installed",
        "pixi#3223; flash-attention#2561; kingszun/UniAD",
        within="setup.py",
    ),
    Known(
        "RX339",
        ("No module named 'packaging'",),
        "wheel 0.46 and newer needs `packaging` in the environment that builds",
        "`python -m pip install wheel==0.43.0`",
        "wheel's release notes",
        within="bdist_wheel",
    ),
    Known(
        "RX340",
        ("xformers … requires torch==…, but you have torch 2.0.0",),
        "xformers {0} is for another torch; installing it with its dependencies replaces torch 2.0.0",
        "`python -m pip install --no-deps xformers==0.0.19`, the one for torch 2.0.0, or leave it out: DINOv2 works "
        "without",
        "the user's record 4",
        doctor="RD321",
    ),
    Known(
        "RX341",
        ("is not a supported wheel on this platform",),
        "the wheel is for another Python, system or processor",
        "use Python 3.10 on Linux x86_64 (`make setup`); a cp310 wheel fits no other",
        "pip's manual",
    ),
)
