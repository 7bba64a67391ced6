"""What compilers and setup.py say."""

from __future__ import annotations

from racdino.doctor.explain.known import Known, Role

KNOWN = (
    Known(
        "RX401",
        ("CUDA_HOME environment variable is not set",),
        "there is no nvcc here, and a CUDA extension is to be compiled",
        "install CUDA 11.8's compiler and `export CUDA_HOME=/usr/local/cuda-11.8`, or set up with `VARIANT=cpu make "
        "setup`",
        "flash-attention#1229, #509",
        doctor="RD103",
    ),
    Known(
        "RX402",
        ("The detected CUDA version (…) mismatches the version that was used to compile",),
        "nvcc is of CUDA {0} and torch of another major version",
        "`export CUDA_HOME=/usr/local/cuda-11.8 PATH=/usr/local/cuda-11.8/bin:$PATH` for torch 2.0.0+cu118",
        "mmcv#1055; torch/utils/cpp_extension.py",
        doctor="RD103",
    ),
    Known(
        "RX403",
        ("unsupported GNU version! gcc versions later than …",),
        "nvcc 11.8 does not take this gcc: versions later than {0}",
        "`apt-get install -y g++-11 && export CC=gcc-11 CXX=g++-11 CUDAHOSTCXX=g++-11`",
        "CUDA 11.8's installation guide; the user's record 3",
        doctor="RD104",
    ),
    Known(
        "RX404",
        ("Unsupported gpu architecture '…'",),
        "this nvcc is too old or too new for the target {0}",
        'compile with CUDA 11.8\'s nvcc and TORCH_CUDA_ARCH_LIST="7.0 7.5 8.0 8.6 8.9 9.0+PTX"',
        "CUDA's nvcc manual",
        doctor="RD103",
    ),
    Known(
        "RX405",
        (
            "#error C++17 or later compatible compiler is required to use PyTorch",
            "You need C++17 to compile PyTorch",
            "#error You need C++20 to compile PyTorch",
        ),
        "the installed torch is newer than 2.0, whose headers are the last that mmcv-full 1.6.0's C++14 can read",
        "install torch 2.0.0 (`make setup`); pip may have replaced it with another package's wish",
        "mmcv#2949, #3035, #3341",
    ),
    Known(
        "RX406",
        ("Ninja is required to load C++ extensions", "Attempted to use ninja as the BuildExtension backend but"),
        "ninja is not installed, without which one file is compiled after another",
        "`python -m pip install ninja`",
        "flash-attention#945, #1038",
    ),
    Known(
        "RX407",
        (
            "Killed signal terminated program cc1plus",
            "'cicc' died due to signal 9",
            "'ptxas' died due to signal 9",
            "internal compiler error: Killed",
        ),
        "the machine ran out of memory while several files were compiled at once",
        "`MAX_JOBS=2` before the command, or 1",
        "flash-attention#1038, #150",
    ),
    Known(
        "RX408",
        ("Microsoft Visual C++ 14.0 or greater is required",),
        "this is Windows, on which neither the op nor mmcv-full 1.6.0 is built here",
        "use WSL 2 or Linux, and `make setup` there",
        "ViT-Adapter#13",
    ),
    Known(
        "RX409",
        ("fatal error: Python.h: No such file or directory",),
        "Python's headers are not installed",
        "`apt-get install -y python3.10-dev`, or `make setup`, whose Python has them",
        "Python's packaging guide",
    ),
    Known(
        "RX410",
        tuple(
            f"fatal error: {header}: No such file or directory"
            for header in (
                "cusparse.h",
                "cublas_v2.h",
                "cusolverDn.h",
                "cuda_runtime.h",
                "cuda_runtime_api.h",
                "cuda.h",
            )
        ),
        "CUDA's headers are not all here: a slim image, or CUDA_HOME names something else",
        "install all of CUDA 11.8's toolkit, or use RacDINO's image, which has it where it compiles: `make image`",
        "flash-attention#1736",
    ),
    Known(
        "RX411",
        ("fatal error: THC/THC.h: No such file or directory",),
        "this op's sources are for torch before 1.11, which had THC",
        "use RacDINO's own `MultiScaleDeformableAttention`, which needs no source of the checkout: "
        "`racdino doctor --fix`",
        "Deformable-DETR, models/ops/src",
    ),
    Known(
        "RX412",
        (
            "'AT_CHECK' was not declared in this scope",
            "‘AT_CHECK’ was not declared in this scope",
            'identifier "AT_CHECK" is undefined',
            "DeprecatedTypeProperties’ to ‘c10::ScalarType’",
            'no suitable conversion function from "const at::DeprecatedTypeProperties" to "c10::ScalarType" exists',
        ),
        "this op's sources use what torch has removed since",
        "use RacDINO's own `MultiScaleDeformableAttention`, which needs no source of the checkout: "
        "`racdino doctor --fix`",
        "SparseBEV#13; Deformable-DETR",
    ),
    Known(
        "RX413",
        (
            "gcc' failed: No such file or directory",
            "g++' failed: No such file or directory",
            "unable to execute 'gcc': No such file or directory",
            "unable to execute 'x86_64-linux-gnu-gcc': No such file or directory",
        ),
        "there is no C++ compiler here",
        "`apt-get install -y g++`, version 11 where nvcc 11.8 compiles too",
        "the user's record 3",
    ),
    Known(
        "RX414",
        (
            "Compiling mmcv._ext without CUDA",
            "Compiling mmcv._ext only with CPU",
        ),
        "mmcv-full is compiled without its CUDA ops, since no GPU is visible: right without one, "
        "wrong in `docker build`",
        '`FORCE_CUDA=1 TORCH_CUDA_ARCH_LIST="7.0 7.5 8.0 8.6 8.9 9.0+PTX"` before the command, with nvcc 11.8',
        "mmcv#1923; AnimatedDrawings#240",
        role=Role.NOTE,
    ),
    Known(
        "RX415",
        ("Error compiling objects for extension", "ninja: build stopped: subcommand failed"),
        "a compiler refused a file; its own words stand further up, after the first `error:`",
        "look for the first `error:` above, or give the whole output to `racdino doctor explain`",
        "torch/utils/cpp_extension.py",
        role=Role.CONSEQUENCE,
    ),
)
