"""What container engines, the NVIDIA driver and the platform say."""

from __future__ import annotations

from racdino.doctor.explain.known import Known

KNOWN = (
    Known(
        "RX101",
        ('could not select device driver "" with capabilities: [[gpu]]',),
        "docker was asked for a GPU and NVIDIA's container toolkit is not set up on this host",
        "`sudo apt-get install -y nvidia-container-toolkit && sudo nvidia-ctk runtime configure --runtime=docker && "
        "sudo "
        "systemctl restart docker`; docs/running.md has the details",
        "docs/running.md",
    ),
    Known(
        "RX102",
        ("unresolvable CDI devices …",),
        "podman was asked for {0} and there is no CDI description of the host's GPUs",
        "`sudo nvidia-ctk cdi generate --output=/etc/cdi/nvidia.yaml`, again after each change of the driver",
        "docs/running.md",
    ),
    Known(
        "RX103",
        ("unsatisfied condition: cuda>=",),
        "the host's NVIDIA driver is older than the CUDA that this image asks for",
        "install driver 520.61.05 or newer on the host, or run RacDINO's own image, which asks for no version; "
        "`nvidia-smi` names the driver's",
        "NVIDIA/nvidia-container-toolkit#152",
        doctor="RD202",
    ),
    Known(
        "RX104",
        ("Failed to initialize NVML: Unknown Error",),
        "the running container has lost its GPU, as after a `systemctl daemon-reload` on the host",
        "start the container anew; for good: `exec-opts` `native.cgroupdriver=cgroupfs` in /etc/docker/daemon.json, "
        "or a "
        "toolkit with CDI",
        "NVIDIA/nvidia-container-toolkit#48, #251",
    ),
    Known(
        "RX105",
        ("Failed to initialize NVML: Driver/library version mismatch",),
        "the host's driver was updated while its old kernel module is still loaded",
        "restart the host, or unload the module: `sudo rmmod nvidia_uvm nvidia_drm nvidia_modeset nvidia`",
        "NVIDIA's driver manual",
        doctor="RD201",
    ),
    Known(
        "RX106",
        (
            "manifest for nvidia/cuda:… not found",
            "docker.io/nvidia/cuda:…: not found",
            "nvcr.io/nvidia/cuda:…: not found",
        ),
        "NVIDIA deletes a CUDA image half a year after its support ends, and {0} is gone",
        "use RacDINO's image, which is made from Debian and needs none: `make image`",
        "NVIDIA/nvidia-docker#1768, #1789, #1454",
    ),
    Known(
        "RX107",
        ("NO_PUBKEY A4B469963BF863CC",),
        "NVIDIA changed its apt repository's key in 2022 and this image still has the old one",
        "`apt-key del 7fa2af80` and install NVIDIA's `cuda-keyring` package before `apt-get update`, or use `make "
        "image`",
        "NVIDIA/nvidia-docker#1631, #1632",
    ),
    Known(
        "RX108",
        ("The NVIDIA driver on your system is too old (found version …)",),
        "the NVIDIA driver serves CUDA {0} (11040 is 11.4), less than this torch was built with",
        "install driver 520.61.05 or newer on the host, which serves CUDA 11.8",
        "torch/cuda/__init__.py",
        doctor="RD202",
    ),
    Known(
        "RX109",
        ("libcuda.so.1: cannot open shared object file", "libcuda.so.1: cannot open"),
        "the NVIDIA driver's own library is not visible here: the container was started without GPUs, or a Nix shell "
        "hides it",
        "start the container with `--gpus all`; with Nix use `nixGL`, or put the folder of the host's libcuda.so.1 in "
        "LD_LIBRARY_PATH (`ldconfig -p | grep libcuda`)",
        "nixpkgs#46032, #230214; dream2nix#698",
        doctor="RD201",
    ),
    Known(
        "RX110",
        ("Found no NVIDIA driver on your system",),
        "torch finds no NVIDIA driver: this machine has no GPU, or the container was started without it",
        "start the container with `--gpus all`; on a machine without a GPU set up with `VARIANT=cpu make setup`",
        "torch/csrc/cuda/Module.cpp",
        doctor="RD201",
    ),
    Known(
        "RX111",
        ("bind source path does not exist: …",),
        "a folder that is to be mounted does not exist on the host: {0}",
        "make the folder or correct the path after `source=`",
        "docs/running.md",
    ),
    Known(
        "RX112",
        ("error setting rlimit type",),
        "the container engine runs in a container itself and may not raise limits",
        "leave `--ulimit` out of the command",
        "docs/running.md",
    ),
    Known(
        "RX113",
        ("Release file for … is expired (invalid since", "Release file for … is not valid yet (invalid for another"),
        "apt takes the archive {0} for out of date: it is a snapshot, or the machine's clock is wrong",
        "`apt-get -o Acquire::Check-Valid-Until=false update` for a snapshot; else set the clock",
        "debuerreotype#201",
    ),
    Known(
        "RX114",
        (
            "The repository '…' does not have a Release file",
            "The repository '…' no longer has a Release file",
        ),
        "the distribution of this image is out of support and its packages have left the mirror {0}",
        "use the archive that its distributor keeps of old releases, or a newer base; RacDINO's `make image` has "
        "its "
        "packages by hash",
        "woocommerce-gateway-stripe PR 5904",
    ),
    Known(
        "RX115",
        ("useradd: UID … is not unique", "groupadd: GID '…' already exists"),
        "the base image has a user or group {0} already, as Ubuntu 24.04 has `ubuntu`",
        "delete it first (`userdel -r ubuntu`) or take another number; RacDINO's image runs as any `--user` without "
        "one",
        "devcontainers/images#1056",
    ),
    Known(
        "RX116",
        ("permission denied while trying to connect to the Docker daemon socket",),
        "this user may not talk to docker",
        "`sudo usermod -aG docker $USER` and log in again, or use podman: `make image ENGINE=podman`",
        "Docker's post-installation manual",
    ),
    Known(
        "RX117",
        ('exporter option "rewrite-timestamp" conflicts with "unpack"',),
        "docker's own image store cannot rewrite times while it unpacks",
        "export an archive (`type=oci,rewrite-timestamp=true`) and load it, or add `unpack=false`; `make image` does",
        "docker/cli#5256",
    ),
    Known(
        "RX118",
        ("scontrol: command not found",),
        "a job cannot requeue itself from inside its container, which has no Slurm",
        "let the batch script do it outside, after `srun` returns 75: docs/slurm/train.sbatch",
        "NVIDIA/pyxis#129",
    ),
    Known(
        "RX119",
        ("No module named 'distutils'",),
        "this is Python 3.12 or newer, which has no distutils, and torch 2.0 needs it",
        "use Python 3.10: `make setup` brings it",
        "torch 2.0.0, torch/utils/tensorboard/__init__.py",
        doctor="RD101",
    ),
    Known(
        "RX120",
        (
            "TypeError: unsupported operand type(s) for |: 'type' and 'NoneType'",
            "TypeError: unsupported operand type(s) for |: 'type' and 'type'",
        ),
        "the code uses `X | Y` as a type, for Python 3.10, and this Python is older; torch.hub takes DINOv2's newest "
        "code",
        "use Python 3.10 (`make setup`), or this project's own DINOv2, which reads torch.hub's weights",
        "dinov2 PR 539; dino_wm#25",
        doctor="RD101",
    ),
)
