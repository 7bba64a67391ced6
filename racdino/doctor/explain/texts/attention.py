"""What flash-attn, xFormers and the attention layers say."""

from __future__ import annotations

from racdino.doctor.explain.known import Known, Role

KNOWN = (
    Known(
        "RX501",
        ("flash_attn_2_cuda.cpython-…: undefined symbol",),
        "this flash-attn was compiled for another torch or with the other C++ ABI; torch 2.0's wheels have the old one",
        "take the wheel `+cu118torch2.0cxx11abiFALSE-cp310`, or compile it: `invoke setup --flash-attn`",
        "flash-attention#853, #919, #975, #1644, #1783",
        doctor="RD503",
    ),
    Known(
        "RX502",
        ("cannot import name 'flash_attn_unpadded_",),
        "the code is for flash-attn 1 (1.0.9 the last), and version 2 has renamed these functions to "
        "flash_attn_varlen_*",
        "rename in the import: flash_attn_unpadded_kvpacked_func to flash_attn_varlen_kvpacked_func; or leave "
        "flash-attn "
        "out: RacDINO's detector does without",
        "flash-attention#641, #1280; panacea#29",
    ),
    Known(
        "RX503",
        ("FlashAttention only supports Ampere GPUs or newer",),
        "flash-attn 2 runs on compute capability 8.0 and newer only, and this GPU is older",
        "use the standard attention (remove `flash_attn` from the config), or a newer GPU",
        "flash-attention's README",
    ),
    Known(
        "RX504",
        ("FlashAttention only support fp16 and bf16 data type",),
        "flash-attn is called with float32",
        "train with `--amp bf16`, or use the standard attention",
        "flash-attention's README",
    ),
    Known(
        "RX505",
        ("xFormers is not available (…)", "xFormers not available"),
        "DINOv2 has not found xFormers and uses its standard attention, somewhat slower; nothing is wrong",
        "to have it, `python -m pip install --no-deps xformers==0.0.19`, the one for torch 2.0.0; 0.0.20 and newer "
        "replace torch",
        "the user's record 4; dinov2#151, #513",
        doctor="RD501",
        role=Role.NOTE,
    ),
    Known(
        "RX506",
        ("xFormers can't load C++/CUDA extensions",),
        "xFormers is of another torch, Python or CUDA and runs without its kernels",
        "`python -m pip install --no-deps --force-reinstall xformers==0.0.19` beside torch 2.0.0",
        "Rein#27",
        doctor="RD321",
        role=Role.NOTE,
    ),
    Known(
        "RX507",
        ("No operator found for `memory_efficient_attention_…`",),
        "xFormers has no kernel for these tensors: they are on the CPU, of another type, or its kernels did not load",
        "`export XFORMERS_DISABLED=1` for DINOv2's standard attention; `python -m xformers.info` lists the kernels",
        "dinov2#3",
        doctor="RD502",
    ),
    Known(
        "RX508",
        ("\" not implemented for 'Half'",),
        "half precision is used on the CPU or in an op that has none",
        "leave `fp16` and `--amp` out on a CPU, or use bfloat16",
        "mmcv#2011; DDP#11",
    ),
    Known(
        "RX509",
        ("No module named 'flash_attn'",),
        "flash-attn is not installed, and this code imports it without a way around",
        "`invoke setup --flash-attn` compiles 2.3.5 (hours, nvcc 11.8); RacDINO's detector does without",
        "flash-attention#1038",
    ),
    Known(
        "RX510",
        ("No module named 'xformers'",),
        "xFormers is not installed, and this code imports it without a way around",
        "`python -m pip install --no-deps xformers==0.0.19`, the one for torch 2.0.0",
        "the user's record 4",
        doctor="RD501",
    ),
    Known(
        "RX511",
        ("xFormers is required for using nested tensors",),
        "DINOv2 was given a list of tensors, which only xFormers can take",
        "give one batch tensor, or `python -m pip install --no-deps xformers==0.0.19`",
        "dinov2, layers/block.py",
    ),
)
