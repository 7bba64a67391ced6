"""Build the operator `racdino._C`; everything else about the package is in pyproject.toml.

    python setup.py build_ext --inplace      pip install --no-build-isolation --no-deps -e .      pip wheel ...

All routes share one cache (racdino/environment/extension_cache.py), so the compiler runs once per set of inputs.

Environment:
    FORCE_CUDA            1: compile the CUDA kernels (an image build sees no GPU); 0: leave them out.
                          Unset: compile them when nvcc is the version torch was built with.
    TORCH_CUDA_ARCH_LIST  GPU targets, such as "8.0;9.0+PTX". Unset: those of environment/build.lock that nvcc knows.
    MAX_JOBS              compilers at a time.
"""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
import sysconfig
from pathlib import Path

from setuptools import setup
from setuptools.errors import BaseError

ROOT = Path(__file__).resolve().parent
sys.path.insert(0, str(ROOT))  # pip runs this file from another folder

from racdino.environment import extension_cache  # noqa: E402
from racdino.environment.locks import read_header  # noqa: E402

try:
    import torch
    from torch.utils.cpp_extension import CUDA_HOME, BuildExtension, CppExtension, CUDAExtension
except ModuleNotFoundError as error:
    sys.exit(
        f"setup.py: {error.name} is missing. Install torch first, then build with `pip install --no-build-isolation`."
    )

SOURCES = ROOT / "racdino" / "csrc"
COMPILE_FLAGS = {
    # -fopenmp is for compiling only: at::parallel_for is header code. Linking it as well would load a second OpenMP
    # pool beside torch's own, one that torch.set_num_threads does not reach.
    "cxx": ["-O3", "-g0", "-fopenmp", "-fno-math-errno", "-fno-trapping-math", "-ffp-contract=fast"],
    "nvcc": ["-O3"],
}


def output_of(*command: str) -> str:
    """What a tool prints about itself, or the sentence that says it is missing."""
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError) as error:
        hint = "Install a C++ compiler (apt: g++, dnf: gcc-c++) or set CXX."
        sys.exit(f"setup.py: `{' '.join(command)}` failed ({error}). {hint}")


def nvcc_version() -> tuple[str, str] | None:
    """The nvcc torch will call and its version as `11.8`."""
    nvcc = Path(CUDA_HOME or "") / "bin" / "nvcc"
    if CUDA_HOME is None or not nvcc.is_file():
        return None
    found = re.search(r"release (\d+\.\d+)", output_of(str(nvcc), "--version"))
    return (str(nvcc), found.group(1)) if found else None


def wants_cuda() -> bool:
    force = os.environ.get("FORCE_CUDA")
    nvcc = nvcc_version()
    if force == "1" and nvcc is None:
        sys.exit("setup.py: FORCE_CUDA=1 but there is no nvcc. Install the CUDA toolkit and set CUDA_HOME.")
    if force in {"0", "1"}:
        return force == "1"
    return nvcc is not None and nvcc[1] == torch.version.cuda


def architectures() -> str:
    nvcc = nvcc_version()
    if "TORCH_CUDA_ARCH_LIST" in os.environ or nvcc is None:
        return os.environ.get("TORCH_CUDA_ARCH_LIST", "")
    known = output_of(nvcc[0], "--list-gpu-arch")
    # Stated, never probed: the machine that compiles need not have the GPU.
    stated = read_header(ROOT / "environment" / "build.lock")["arch-list"].split()
    return ";".join(arch for arch in stated if f"compute_{arch[0]}{arch[2]}" in known)


def facts(cuda: bool) -> dict[str, object]:
    """Everything that shapes the binary; its digest is the key of the cache."""
    compiler = shlex.split(os.environ.get("CXX", "c++"))
    return {
        "sources": extension_cache.sources_digest(SOURCES),
        "flags": COMPILE_FLAGS,
        "environment": {name: os.environ.get(name, "") for name in ("CFLAGS", "CXXFLAGS", "LDFLAGS")},
        "torch": torch.__version__,
        "python": sysconfig.get_config_var("SOABI"),
        "compiler": output_of(*compiler, "--version").splitlines()[0],
        "nvcc": nvcc_version() if cuda else None,
        "architectures": architectures() if cuda else "",
    }


class CachedBuildExtension(BuildExtension):
    """torch's `build_ext`, which asks the cache first and stores in it what it compiled."""

    def run(self) -> None:
        (extension,) = self.extensions
        cuda = any(source.endswith(".cu") for source in extension.sources)
        shaped_by = facts(cuda)
        key = extension_cache.key_of(shaped_by)
        in_place, self.inplace = self.inplace, False
        built = Path(self.get_ext_fullpath(extension.name))
        target = ROOT / "racdino" / built.name if in_place else built
        try:
            with extension_cache.only_builder(key):
                if not extension_cache.fetch(key, target):
                    self.compile(cuda)
                    extension_cache.store(key, shaped_by, built)
                    extension_cache.place(built, target)
        except OSError as error:
            folder = extension_cache.cache_folder()
            sys.exit(
                f"setup.py: cannot write {error.filename}: {error.strerror}. Builds are kept in {folder}: make room "
                "there, or set XDG_CACHE_HOME to a folder that can be written."
            )
        self.inplace = in_place

    def compile(self, cuda: bool) -> None:
        if cuda:
            os.environ["TORCH_CUDA_ARCH_LIST"] = architectures()
        print(f"setup.py: compiling racdino._C for the CPU{' and CUDA ' + architectures() if cuda else ''}", flush=True)
        try:
            super().run()
        except (RuntimeError, OSError, BaseError) as error:
            sys.exit(f"setup.py: racdino._C did not compile; the compiler's own words are above ({error}).")


def extension() -> CppExtension:
    cuda = wants_cuda()
    kernels = sorted(SOURCES.rglob("*.cpp")) + (sorted(SOURCES.rglob("*.cu")) if cuda else [])
    return (CUDAExtension if cuda else CppExtension)(
        "racdino._C",
        [str(path.relative_to(ROOT)) for path in kernels],
        extra_compile_args=COMPILE_FLAGS if cuda else {"cxx": COMPILE_FLAGS["cxx"]},
        define_macros=[("RACDINO_WITH_CUDA", None)] if cuda else [],
    )


setup(ext_modules=[extension()], cmdclass={"build_ext": CachedBuildExtension})
