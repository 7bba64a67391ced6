"""What training and several processes say."""

from __future__ import annotations

from racdino.doctor.explain.known import Known, Role

KNOWN = (
    Known(
        "RX971",
        (
            "Watchdog caught collective operation timeout",
            "Some NCCL operations have failed or timed out",
            "Timed out waiting … for send operation to complete",
        ),
        "one process waited for another that had stopped or was still busy",
        "look for the first error of any rank further up; without one `export NCCL_DEBUG=INFO` and run again",
        "pytorch's NCCL notes",
        role=Role.CONSEQUENCE,
    ),
    Known(
        "RX972",
        ("The server socket has failed to listen on any local network address", "errno: 98 - Address already in use"),
        "another run on this machine uses the same port, or an earlier one has not ended",
        "`torchrun --master_port 29501 ...`; `racdino train` takes a free one; `pgrep -af train` shows old processes",
        "torch/distributed",
    ),
    Known(
        "RX973",
        ("torch.distributed.elastic.multiprocessing.errors.ChildFailedError",),
        "one of the processes failed; its own traceback stands further up",
        "give the whole output to `racdino doctor explain`, or run with one process to see the error",
        "torch/distributed/elastic",
        role=Role.CONSEQUENCE,
    ),
    Known(
        "RX974",
        ("Expected to have finished reduction in the prior iteration before starting a new one",),
        "some parameters took no part in the loss, as DINOv2's last norm does when freeze_dino=False",
        "`find_unused_parameters=True` in the config, or freeze those parameters",
        "BEVCar's DinoAdapter; torch/nn/parallel/distributed.py",
    ),
    Known(
        "RX975",
        ("Expected to mark a variable ready only once",),
        "checkpointing (`with_cp=True`) and find_unused_parameters=True do not go together",
        "set one of the two to False",
        "torch/nn/parallel/distributed.py",
    ),
    Known(
        "RX976",
        ("loss: nan", "loss=nan", "grad_norm: nan"),
        "the loss is no number any more",
        "a lower `lr`, `grad_clip=dict(max_norm=35)`, bfloat16 or float32 instead of float16; with few samples per "
        "step "
        "`stop_prev_grad` as in the baseline",
        "SparseBEV#77, #62; Sparse4D#8, #109",
    ),
    Known(
        "RX977",
        ("ncclInvalidUsage: This usually reflects invalid usage of NCCL library", "Duplicate GPU detected"),
        "two processes use the same GPU",
        "start as many processes as there are GPUs, each with `torch.cuda.set_device(local_rank)`; `racdino train` "
        "does",
        "NCCL's manual",
    ),
    Known(
        "RX978",
        ("ncclUnhandledCudaError: Call to CUDA function failed", "ncclSystemError: System call"),
        "NCCL cannot set up its connections: /dev/shm, the network interface, or a GPU in trouble",
        "`--shm-size=16g --ipc=host`, `export NCCL_DEBUG=INFO` says which; `NCCL_SOCKET_IFNAME=eth0` names the "
        "interface",
        "NCCL's manual",
    ),
    Known(
        "RX979",
        ("EOFError: EOF when reading a line",),
        "the program asks whether to overwrite the work folder, and there is nobody to answer",
        "name a new work folder; `racdino train CONFIG --work-dir DIR` never asks",
        "RaCFormer, train.py",
    ),
    Known(
        "RX980",
        ("error: unrecognized arguments: --local-rank=…", "error: unrecognized arguments: --local_rank=…"),
        "torch.distributed.launch of torch 2.0 passes `--local-rank`, and the script knows only `--local_rank`",
        "`torchrun --nproc_per_node N train.py ...`, and read LOCAL_RANK from the environment in the script",
        "torch 2.0's torch/distributed/launch.py",
    ),
    Known(
        "RX981",
        ("environment variable … expected, but not set",),
        "the script was started without a launcher, so {0} is not set",
        "`torchrun --nproc_per_node 1 train.py ...`, or `racdino train CONFIG`",
        "torch/distributed/rendezvous.py",
    ),
    Known(
        "RX982",
        ("Default process group has not been initialized",),
        "SyncBN or another collective is used in a run of one process",
        "`norm_cfg=dict(type='BN')`, or start with `torchrun --nproc_per_node 1`",
        "torch/distributed/distributed_c10d.py",
        doctor="RD732",
    ),
    Known(
        "RX983",
        ("does not require grad and does not have a grad_fn",),
        "nothing that is trained leads to the loss: everything is frozen, or a `no_grad` covers it",
        "look at `freeze_dino`, `frozen_stages` and `stop_prev_grad`: at least the neck and head must be trained",
        "torch/autograd",
    ),
    Known(
        "RX984",
        (
            "ONNX export failed on an operator with unrecognized namespace …. If you are trying",
            "Exporting the operator '…' to ONNX opset version",
        ),
        "the operator {0} has no ONNX counterpart; RacDINO does not export the detector",
        "export the plain-torch reference instead of the op, or run the detector in torch",
        "SparseBEV#33",
    ),
)
