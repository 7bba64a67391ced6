"""What limits of memory, files, disks and users say."""

from __future__ import annotations

from racdino.doctor.explain.known import Known, Role

KNOWN = (
    Known(
        "RX901",
        (
            "is killed by signal: Bus error",
            "This might be caused by insufficient shared memory (shm)",
            "unable to write to file </torch_",
        ),
        "the loader's shared memory /dev/shm is full; containers get 64 MiB where nothing else is said",
        "start the container with `--shm-size=16g` or `--ipc=host`",
        "pytorch#5040, #1355; mmdetection#1997",
        doctor="RD901",
    ),
    Known(
        "RX902",
        ("DataLoader worker (pid(s) …) exited unexpectedly",),
        "a loader process (pid {0}) died; its own message, if it had one, stands further up",
        "run with `workers_per_gpu=0` to see the error itself; without a message look at memory and /dev/shm",
        "torch/utils/data/dataloader.py",
        role=Role.CONSEQUENCE,
    ),
    Known(
        "RX903",
        ("Too many open files", "received 0 items of ancdata"),
        "this process may not open more files",
        "`ulimit -n 65536` before the command, in docker `--ulimit nofile=65536`",
        "pytorch#973",
        doctor="RD903",
    ),
    Known(
        "RX904",
        ("No space left on device",),
        "a disk is full; it may be /tmp or the cache and not that of the outputs",
        "`df -h . /tmp ~/.cache /dev/shm` says which; TMPDIR moves /tmp, `max_keep_ckpts` in checkpoint_config keeps "
        "fewer",
        "vllm#17163",
        doctor="RD906",
    ),
    Known(
        "RX905",
        ("getpwuid(): uid not found: …",),
        "the container runs as user {0}, who has no name in its /etc/passwd",
        "`export USER=me HOME=/tmp TORCHINDUCTOR_CACHE_DIR=/tmp/inductor`; RacDINO's image runs as any user",
        "pytorch#140765; vllm PR 46734",
        doctor="RD909",
    ),
    Known(
        "RX906",
        ("cannot cache function '…': no locator available for file",),
        "numba may not write its cache, neither beside the package nor in the home folder",
        "`export NUMBA_CACHE_DIR=/tmp/numba`",
        "numba#4032; nf-core/sopa#20",
        doctor="RD907",
    ),
    Known(
        "RX907",
        ("Read-only file system: '…'",),
        "{0} is to be written and lies on a read-only file system, as in apptainer or with `--read-only`",
        "`export HOME=/tmp XDG_CACHE_HOME=/tmp/cache`, or mount a folder there",
        "aslprep#391",
        doctor="RD907",
    ),
    Known(
        "RX908",
        (
            "Permission denied: '…outputs…'",
            "Permission denied: '…work_dirs…'",
            "Permission denied: '/workspace…'",
        ),
        "the results folder belongs to another user, mostly root, whom an earlier container ran as",
        '`sudo chown -R "$(id -u):$(id -g)" outputs work_dirs`, and start containers with `--user "$(id -u):$(id -g)"`',
        "google/deepvariant#550; autogen#592",
        doctor="RD902",
    ),
    Known(
        "RX909",
        ("is killed by signal: Killed", "oom-kill event", "Exitcode -9 (SIGKILL)", "exitcode  : -9"),
        "the machine or the container ran out of main memory and the system ended a process",
        "fewer loader processes (`workers_per_gpu=2`), a larger `--memory`; `dmesg | tail` names the process",
        "the kernel's manual, memory cgroups",
    ),
    Known(
        "RX910",
        (
            "RuntimeError: can't start new thread",
            "libgomp: Thread creation failed: Resource temporarily unavailable",
            "OpenBLAS blas_thread_init: pthread_create failed",
        ),
        "this user may not start more threads, and every process starts as many as there are cores",
        "`export OMP_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1`; `ulimit -u` shows the limit, in docker `--pids-limit=-1`",
        "OpenBLAS' FAQ",
        doctor="RD905",
    ),
    Known(
        "RX911",
        (
            "DefaultCPUAllocator: can't allocate memory",
            "MemoryError: Unable to allocate …",
        ),
        "there is not enough main memory for one array",
        "fewer loader processes or a smaller batch; `free -g` and `ulimit -v` show what there is",
        "numpy's manual",
    ),
    Known(
        "RX912",
        ("Matplotlib created a temporary",),
        "matplotlib cannot write its folder and works with a temporary one; nothing is wrong",
        "`export MPLCONFIGDIR=/tmp/matplotlib` spares the seconds",
        "matplotlib's manual",
        doctor="RD907",
        role=Role.NOTE,
    ),
    Known(
        "RX913",
        ("Stale file handle",),
        "a file on a network disk was replaced while it was open",
        "start again; do not build or install into the folder of a running job",
        "nfs(5)",
    ),
    Known(
        "RX914",
        ("Disk quota exceeded",),
        "this user's quota on a disk is used up, on clusters mostly the home folder's",
        "`export XDG_CACHE_HOME=/scratch/$USER/cache` and `--work-dir` on another disk; `quota -s` shows it",
        "quotactl(2)",
    ),
)
