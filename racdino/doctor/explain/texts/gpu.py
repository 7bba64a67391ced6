"""What CUDA says."""

from __future__ import annotations

from racdino.doctor.explain.known import Known, Role

_NO_KERNEL = ("no kernel image is available for execution on the device",)

KNOWN = (
    Known(
        "RX201",
        _NO_KERNEL,
        "something that was called has no machine code for this GPU",
        "`racdino doctor --only gpu` names the library; build with the GPU's target in TORCH_CUDA_ARCH_LIST, as "
        "`make setup` does (7.0 7.5 8.0 8.6 8.9 9.0+PTX)",
        "mmdetection#11044",
        doctor="RD203",
        role=Role.CONSEQUENCE,
    ),
    Known(
        "RX202",
        ("with CUDA capability sm_… is not compatible with the current PyTorch installation",),
        "this torch has no machine code for sm_{0}: the torch 2.0 of the package index is the CUDA 11.7 build, which "
        "has "
        "none for Hopper (sm_90)",
        "install torch 2.0.0+cu118: `VARIANT=cu118 make setup`",
        "pytorch#110153, #90761",
        doctor="RD203",
    ),
    Known(
        "RX203",
        _NO_KERNEL,
        "mmcv-full was compiled without code for this GPU",
        '`MMCV_WITH_OPS=1 FORCE_CUDA=1 TORCH_CUDA_ARCH_LIST="8.0 8.6 9.0+PTX" python -m pip install '
        "--no-build-isolation "
        "--no-binary mmcv-full --force-reinstall --no-deps mmcv-full==1.6.0`, or `VARIANT=cu118 make setup`",
        "mmdetection#11044",
        doctor="RD203",
        within="/mmcv/ops/",
    ),
    Known(
        "RX204",
        _NO_KERNEL,
        "spconv has no code for this GPU",
        'install the variant of CUDA 11.8: `python -m pip install spconv-cu118==2.3.6 "cumm-cu118>=0.4.5,<0.5"`',
        "Lidar_AI_Solution#265",
        doctor="RD203",
        within="/spconv/",
    ),
    Known(
        "RX205",
        ("the provided PTX was compiled with an unsupported toolchain",),
        "the driver is older than the CUDA compiler of the code it should translate for this GPU",
        "install driver 520.61.05 or newer on the host, or build with this GPU's own target instead of PTX",
        "CUDA's driver manual, CUDA_ERROR_UNSUPPORTED_PTX_VERSION",
        doctor="RD202",
    ),
    Known(
        "RX206",
        ("CUDA out of memory. Tried to allocate …",),
        "the GPU's memory is full: {0}",
        "lower `batch_size` (with `cumulative_iters` in optimizer_config for the same step), set `with_cp=True` in the "
        "backbone, or train in half precision: `racdino train CONFIG --amp bf16`",
        "SparseBEV#49",
    ),
    Known(
        "RX207",
        ("CUDA error: an illegal memory access was encountered", "CUDA error: misaligned address"),
        "a kernel that ran earlier than this line read or wrote outside its tensors",
        "run again with `CUDA_LAUNCH_BLOCKING=1`, which stops at the call itself, and read that traceback",
        "SparseBEV#8",
        role=Role.CONSEQUENCE,
    ),
    Known(
        "RX208",
        ("CUDA error: an illegal memory access was encountered",),
        "SparseBEV's sampling kernel holds at most 32 points for a query, and num_points times views is more",
        "lower `num_points`, or sample with RacDINO's detector, which has no such limit",
        "SparseBEV#8",
        within="msmv_sampling",
    ),
    Known(
        "RX209",
        ("CUDA error: device-side assert triggered",),
        "an index on the GPU was out of range, mostly a label that is not below num_classes",
        "compare `num_classes` with the length of `class_names`, and run with `CUDA_LAUNCH_BLOCKING=1` to see the line",
        "CUDA's runtime manual",
        doctor="RD720",
    ),
    Known(
        "RX210",
        ("CUDA error: invalid device ordinal",),
        "the program asks for a GPU whose number is not visible to it",
        "start as many processes as `nvidia-smi -L` lists, and look at CUDA_VISIBLE_DEVICES; `racdino train` counts "
        "itself",
        "CUDA's runtime manual, cudaErrorInvalidDevice",
    ),
    Known(
        "RX211",
        ("No CUDA GPUs are available",),
        "the driver is there and no GPU is visible to this process",
        "name one that `nvidia-smi -L` lists in CUDA_VISIBLE_DEVICES, or start the container with `--gpus all`",
        "torch/cuda/__init__.py",
        doctor="RD201",
    ),
    Known(
        "RX212",
        ("Torch not compiled with CUDA enabled",),
        "the installed torch is a build for CPUs only",
        "`VARIANT=cu118 make setup` installs torch 2.0.0+cu118",
        "torch/cuda/__init__.py",
        doctor="RD302",
    ),
    Known(
        "RX213",
        ("CUBLAS_STATUS_NOT_INITIALIZED", "CUBLAS_STATUS_ALLOC_FAILED", "CUDNN_STATUS_NOT_INITIALIZED"),
        "a CUDA library cannot start, mostly because the GPU's memory is full or LD_LIBRARY_PATH brings another "
        "version",
        "`nvidia-smi` shows who uses the memory; then `unset LD_LIBRARY_PATH`, since torch carries its own libraries",
        "CUDA's runtime manual",
        doctor="RD105",
    ),
    Known(
        "RX214",
        (
            "Could not load library libcudnn_cnn_infer.so.8",
            "Could not load library libcudnn_cnn_train.so.8",
            "cuDNN version incompatibility: PyTorch was compiled",
        ),
        "another cuDNN than torch's own is found first",
        "`unset LD_LIBRARY_PATH`: torch carries its own cuDNN",
        "CUDA's runtime manual",
        doctor="RD105",
    ),
    Known(
        "RX215",
        ("Error 802: system not yet initialized",),
        "the GPUs hang together by NVSwitch and the host's fabric manager does not run",
        "`sudo systemctl enable --now nvidia-fabricmanager` on the host, in the driver's own version",
        "gpustack#1254; pytorch#35710",
        doctor="RD201",
    ),
    Known(
        "RX216",
        ("forward compatibility was attempted on non supported HW",),
        "a newer libcuda.so.1 than the host's kernel module is loaded: NVIDIA's compat package, or a host that was "
        "updated "
        "without a restart",
        "restart the host, and take /usr/local/cuda/compat out of LD_LIBRARY_PATH; else update the host's driver",
        "NVIDIA/nvidia-docker#1515",
        doctor="RD201",
    ),
)
