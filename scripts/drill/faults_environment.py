"""Ways in which an environment goes wrong. Versions and names are those of the reports that the checks' pages cite."""

from __future__ import annotations

import resource
from collections.abc import Callable
from pathlib import Path

from scripts.drill.fault import Fault
from scripts.drill.shadow import add, exchange, own, packages, remove

_GIB = 1 << 30


def _other(distribution: str, version: str, module: str = "") -> Callable[[Path], None]:
    return lambda copy: exchange(copy, distribution, version, module)


def _beside(distribution: str, version: str) -> Callable[[Path], None]:
    return lambda copy: add(copy, distribution, version)


def _without(distribution: str) -> Callable[[Path], None]:
    return lambda copy: remove(copy, distribution)


def _op(copy: Path) -> Path:
    return next((copy / "project" / "racdino").glob("_C.*.so"))


def _opencv_with_windows(copy: Path) -> None:
    folder = next(packages(copy).glob("opencv_python_headless-*.dist-info"))
    folder.unlink()  # its files stay: which OpenCV they are is what metadata says
    add(copy, "opencv-python", "4.8.1.78")


def _op_not_compiled(copy: Path) -> None:
    _op(copy).unlink()
    (copy / "project" / "racdino" / "_C.json").unlink(missing_ok=True)


def _op_for_another_python(copy: Path) -> None:
    _op(copy).rename(_op(copy).with_name("_C.cpython-38-x86_64-linux-gnu.so"))


def _op_for_another_torch(copy: Path) -> None:
    _ask_for_another_symbol(_op(copy))


def _mmcv_for_another_torch(copy: Path) -> None:
    extension = next(own(copy, "mmcv").glob("_ext.*.so"))
    content = extension.read_bytes()
    extension.unlink()
    extension.write_bytes(content)
    _ask_for_another_symbol(extension)


def _torchvision_for_another_torch(copy: Path) -> None:
    library = own(copy, "torchvision") / "_C.so"
    content = library.read_bytes()
    library.unlink()
    library.write_bytes(content)
    _ask_for_another_symbol(library)


def _mmcv_without_ops(copy: Path) -> None:
    next(own(copy, "mmcv").glob("_ext.*.so")).unlink()


def _spconv_damaged(copy: Path) -> None:
    library = next(own(copy, "spconv").glob("core_cc.*.so"))
    library.unlink()
    library.write_bytes(b"version https://git-lfs.github.com/spec/v1\n")


def _ask_for_another_symbol(library: Path) -> None:
    """What a library compiled for another torch does: it asks for a function that this one does not have."""
    content = library.read_bytes()
    asked = b"\0_ZN3c106detail14torchCheckFailEPKcS2_jRKNSt7__cxx1112basic_stringIcSt11char_traitsIcESaIcEEE\0"
    if asked not in content:
        asked = b"\0_ZN3c106detail14torchCheckFailEPKcS2_jRKSs\0"
    assert asked in content
    library.write_bytes(content.replace(asked, asked.replace(b"torchCheckFail", b"torchCheckGone")))


def _torch_without_its_cuda(copy: Path) -> None:
    (packages(copy) / "torch").unlink()
    (packages(copy) / "torch").mkdir()
    said = "libcudart.so.11.0: cannot open shared object file: No such file or directory"
    (packages(copy) / "torch" / "__init__.py").write_text(f"raise ImportError({said!r})\n")


def _interrupted_pip(copy: Path) -> None:
    (packages(copy) / "~umpy").mkdir()


def _without_metadata(copy: Path) -> None:
    (own(copy, next(packages(copy).glob("einops-*.dist-info")).name) / "METADATA").unlink()


def _twice(copy: Path) -> None:
    add(copy, "einops", "99.0")


def _another_op_in_front(copy: Path) -> None:
    for entry in (copy / "project" / "MultiScaleDeformableAttention").iterdir():
        entry.unlink()
    (copy / "project" / "MultiScaleDeformableAttention").rmdir()
    (packages(copy) / "MultiScaleDeformableAttention.py").write_text("# another project's\n")


def _another_cuda(copy: Path) -> None:
    (copy / "cuda" / "lib64").mkdir(parents=True)
    (copy / "cuda" / "lib64" / "libcudart.so.12").touch()


def _cuda_12(copy: Path) -> None:
    (copy / "cuda" / "bin").mkdir(parents=True)
    nvcc = copy / "cuda" / "bin" / "nvcc"
    nvcc.write_text("#!/bin/sh\necho 'Cuda compilation tools, release 12.1, V12.1.105'\n")
    nvcc.chmod(0o755)


def _another_numpy(copy: Path) -> None:
    (copy / "other" / "numpy-1.20.3.dist-info").mkdir(parents=True)
    (copy / "other" / "numpy-1.20.3.dist-info" / "METADATA").write_text("Name: numpy\nVersion: 1.20.3\n")


def _foreign_packages(copy: Path) -> None:
    (copy / "lib" / "python3.8" / "site-packages").mkdir(parents=True)


FAULTS = (
    Fault("numpy 1.24", "RD311", _other("numpy", "1.24.4")),
    Fault("setuptools 70", "RD312", _other("setuptools", "70.0.0")),
    Fault("yapf 0.40.2", "RD313", _other("yapf", "0.40.2", "yapf"), mended=True),
    Fault("protobuf 4", "RD314", _other("protobuf", "4.25.3")),
    Fault("Pillow 10", "RD315", _other("pillow", "10.3.0", "PIL"), mended=True),
    Fault("shapely 2", "RD316", _other("shapely", "2.0.4")),
    Fault("numba 0.53", "RD317", _other("numba", "0.53.0")),
    Fault("networkx 2.2", "RD318", _other("networkx", "2.2", "networkx"), mended=True),
    Fault("mmcv beside mmcv-full", "RD319", _beside("mmcv", "1.6.0")),
    Fault("opencv-python beside the headless one", "RD320", _beside("opencv-python", "4.7.0.72")),
    Fault("opencv-python in the headless one's place", "RD320", _opencv_with_windows),
    Fault("xformers 0.0.22, which would replace torch", "RD321", _other("xformers", "0.0.22"), record=4),
    Fault("pycocotools 2.0.6", "RD322", _other("pycocotools", "2.0.6")),
    Fault("spconv beside spconv-cu118", "RD323", _beside("spconv", "2.3.6")),
    Fault("matplotlib 3.8", "RD324", _other("matplotlib", "3.8.4")),
    Fault("xformers absent", "RD501", _without("xformers"), record=4),
    Fault("torch absent", "RD301", _without("torch")),
    Fault("einops absent", "RD301", _without("einops"), mended=True),
    Fault("mmdet off the table", "RD302", _other("mmdet", "2.25.0", "mmdet"), mended=True, record=6),
    Fault("tqdm off the lock", "RD302", _other("tqdm", "4.60.0", "tqdm"), mended=True),
    Fault("an interrupted pip's ~ folder", "RD303", _interrupted_pip),
    Fault("a .dist-info without METADATA", "RD303", _without_metadata),
    Fault("a package installed twice", "RD304", _twice),
    Fault("torch's CUDA library absent", "RD401", _torch_without_its_cuda),
    Fault("the op not compiled", "RD402", _op_not_compiled, mended=True, record=3),
    Fault("the op compiled for another Python", "RD402", _op_for_another_python, mended=True, record=3),
    Fault("the op compiled for another torch", "RD402", _op_for_another_torch, mended=True, record=3),
    Fault("another project's op in front", "RD403", _another_op_in_front),
    Fault("mmcv without compiled ops", "RD404", _mmcv_without_ops),
    Fault("mmcv's ops compiled for another torch", "RD404", _mmcv_for_another_torch),
    Fault("torchvision compiled for another torch", "RD406", _torchvision_for_another_torch),
    Fault("spconv's library damaged", "RD405", _spconv_damaged),
    Fault("CUDA_HOME without an nvcc", "RD103", variables={"CUDA_HOME": "/nonexistent/cuda"}),
    Fault("CUDA_HOME of CUDA 12", "RD103", _cuda_12, variables={"CUDA_HOME": "{copy}/cuda"}),
    Fault(
        "another CUDA in LD_LIBRARY_PATH", "RD105", _another_cuda, variables={"LD_LIBRARY_PATH": "{copy}/cuda/lib64"}
    ),
    Fault("an absent library in LD_PRELOAD", "RD106", variables={"LD_PRELOAD": "/nonexistent/libgone.so"}),
    Fault(
        "another Python's packages in PYTHONPATH",
        "RD107",
        _foreign_packages,
        variables={"PYTHONPATH": "{copy}/project:{copy}/lib/python3.8/site-packages"},
    ),
    Fault(
        "another numpy in PYTHONPATH", "RD107", _another_numpy, variables={"PYTHONPATH": "{copy}/project:{copy}/other"}
    ),
    Fault("too few open files", "RD903", limits={resource.RLIMIT_NOFILE: (256, 256)}),
    Fault("address space capped", "RD904", limits={resource.RLIMIT_AS: (20 * _GIB, 20 * _GIB)}),
    Fault("TMPDIR that is no folder", "RD906", variables={"TMPDIR": "/nonexistent/tmp"}),
    Fault("a cache folder that cannot be", "RD907", variables={"XDG_CACHE_HOME": "/dev/null/cache"}),
    Fault("OMP_NUM_THREADS that is no number", "RD908", variables={"OMP_NUM_THREADS": "all"}),
    Fault("a proxy without http://", "RD951", variables={"HTTPS_PROXY": "proxy.example:8080", "https_proxy": ""}),
    Fault(
        "a proxy for http alone",
        "RD952",
        variables={"http_proxy": "http://proxy.example:8080", "HTTP_PROXY": "", "HTTPS_PROXY": "", "https_proxy": ""},
    ),
    Fault(
        "two spellings of one proxy that differ",
        "RD952",
        variables={
            **dict.fromkeys(("http_proxy", "https_proxy", "HTTPS_PROXY"), "http://proxy.example:8080"),
            "HTTP_PROXY": "http://other.example:3128",
        },
    ),
    Fault("a certificate bundle that is gone", "RD953", variables={"SSL_CERT_FILE": "/nonexistent/ca.pem"}),
)
