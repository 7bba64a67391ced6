"""What compiled extensions say when they are loaded or called."""

from __future__ import annotations

from racdino.doctor.explain.known import Known

_BUILD = "`racdino doctor --fix` compiles it, as `python setup.py build_ext --inplace` in RacDINO's folder does"

KNOWN = (
    Known(
        "RX421",
        ("No module named 'MultiScaleDeformableAttention'",),
        "the op is not installed in this Python: an .egg in the checkout's ops/dist is not an installation",
        "`racdino doctor --fix`, or `make setup` in RacDINO's folder; the checkout's own ops/setup.py is not needed",
        "the user's record 3; ViT-Adapter#166, #176, #37",
        doctor="RD402",
    ),
    Known(
        "RX422",
        ("racdino's compiled operator … is missing",),
        "RacDINO is here and its op has not been compiled",
        _BUILD,
        "racdino/ops/_library.py",
        doctor="RD402",
    ),
    Known(
        "RX423",
        ("racdino's compiled operator … is stale (…)",),
        "RacDINO's op was compiled for another torch or from other sources",
        _BUILD,
        "racdino/ops/_library.py",
        doctor="RD402",
    ),
    Known(
        "RX424",
        (
            "MultiScaleDeformableAttention.cpython-…: undefined symbol: …",
            "MultiScaleDeformableAttention…: undefined symbol",
        ),
        "this MultiScaleDeformableAttention was compiled for another torch",
        "delete that file (`python -m pip uninstall -y MultiScaleDeformableAttention`), then `racdino doctor --fix`",
        "the user's record 3",
        doctor="RD402",
    ),
    Known(
        "RX425",
        ("mmcv/_ext.cpython-…: undefined symbol",),
        "mmcv-full was compiled for another torch than the one installed",
        "compile it again for this torch: `make setup`",
        "mmcv#2938",
        doctor="RD404",
    ),
    Known(
        "RX426",
        ("libc10.so: cannot open shared object file",),
        "an extension was loaded before torch, whose folder of libraries nobody has searched yet",
        "`import torch` before it; RacDINO's `MultiScaleDeformableAttention` does so itself",
        "the user's record",
        doctor="RD402",
    ),
    Known(
        "RX427",
        ("libcudart.so.…: cannot open shared object file",),
        "an extension was compiled for a CUDA (libcudart.so.{0}) that this torch does not bring",
        "install the build for CUDA 11.8, or compile it again with nvcc 11.8: `make setup`",
        "flash-attention#919",
        doctor="RD105",
    ),
    Known(
        "RX428",
        ("version `GLIBCXX_…' not found",),
        "the libstdc++ found first is older than what compiled this: it lacks GLIBCXX_{0}",
        "`unset LD_LIBRARY_PATH`; in conda `conda install -c conda-forge libstdcxx-ng`; or compile it on this machine",
        "flash-attention#1428; BundleSDF#185",
        doctor="RD105",
    ),
    Known(
        "RX429",
        ("version `GLIBC_…' not found",),
        "this was compiled on a newer Linux: the C library here lacks GLIBC_{0}",
        "compile it on this machine (`make setup`), or run RacDINO's image, which brings its own C library",
        "manylinux, PEP 600",
    ),
    Known(
        "RX430",
        (": implementation for device cuda:… not found.",),
        "mmcv-full was compiled without its CUDA ops, because no GPU was visible or nvcc was missing",
        '`MMCV_WITH_OPS=1 FORCE_CUDA=1 TORCH_CUDA_ARCH_LIST="8.0 8.6 9.0+PTX" python -m pip install '
        "--no-build-isolation "
        "--no-binary mmcv-full --force-reinstall --no-deps mmcv-full==1.6.0`, or `VARIANT=cu118 make setup`",
        "SparseBEV#84; mmcv#1923",
        doctor="RD203",
    ),
    Known(
        "RX431",
        ("ot compiled with GPU support",),
        "this op was compiled for CPUs only",
        "compile it with `FORCE_CUDA=1` and nvcc 11.8: `VARIANT=cu118 make setup`",
        "mmcv#1923; Deformable-DETR",
    ),
    Known(
        "RX432",
        ("No module named 'mmcv._ext'",),
        "mmcv without ops is installed instead of mmcv-full, or both are",
        "`python -m pip uninstall -y mmcv mmcv-full`, then `make setup`, which compiles mmcv-full 1.6.0 with its ops",
        "mmcv's installation guide",
        doctor="RD319",
    ),
    Known(
        "RX433",
        ("arg(): could not convert default argument '…'",),
        "spconv and cumm are not of one build",
        '`python -m pip install spconv-cu118==2.3.6 "cumm-cu118>=0.4.5,<0.5"` after removing every other spconv and '
        "cumm",
        "spconv#337, #413, #682; CRB-active-3Ddet#7",
        doctor="RD323",
        within="spconv",
    ),
    Known(
        "RX434",
        ("ms_deform_attn_backward(): incompatible function arguments",),
        "the backward pass calls mmcv's op with the arguments of the original one, which differ",
        "`import MultiScaleDeformableAttention` and use RacDINO's op, which takes the original's arguments",
        "ViT-Adapter#46, #41",
    ),
    Known(
        "RX435",
        (
            "module 'MultiScaleDeformableAttention' has no attribute 'ms_deform_attn_forward'",
            "module 'MultiScaleDeformableAttention' has no attribute 'ms_deform_attn_backward'",
        ),
        "a folder or module of that name stands in front of RacDINO's op, such as an `ops` folder in PYTHONPATH",
        '`python -c "import MultiScaleDeformableAttention as m; print(m.__path__)"` says where: remove it or '
        "PYTHONPATH",
        "ViT-Adapter#166",
        doctor="RD403",
    ),
    Known(
        "RX436",
        (
            "\"ms_deform_attn_forward_cuda\" not implemented for 'Half'",
            "\"ms_deform_attn_backward_cuda\" not implemented for 'Half'",
        ),
        "the original op has no half precision, and fp16 is on",
        "use RacDINO's op, which has float16 and bfloat16, or leave `Fp16OptimizerHook` and `--amp` out",
        "mmcv#2011; IDEA-DINO#59",
        doctor="RD717",
    ),
    Known(
        "RX437",
        ("must divide im2col_step(", "batch size must be divisible by im2col_step"),
        "the original op needs samples x cameras x frames to be a multiple of im2col_step: 48 images pass, 96 do not",
        "use RacDINO's op, which takes any number, or set `im2col_step` to a divisor; `batch_size` 1, 4, 8 pass with "
        "64",
        "Deformable-DETR#224; BEVFormer#188; Obj2Seq#3",
        doctor="RD716",
    ),
)
