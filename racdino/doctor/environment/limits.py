"""RD901 to RD909: what the system lets a training run use."""

from __future__ import annotations

import os
import pwd
import re
import resource
from collections.abc import Iterator
from pathlib import Path

from racdino.container import places
from racdino.doctor.check import Group, Problem, check
from racdino.doctor.environment.subject import Environment
from racdino.doctor.finding import Severity

SHARED_MEMORY = Path("/dev/shm")
# A sample is 6 cameras x 8 frames x 704 x 256 x 3 float32 = 99 MiB. Each of a GPU's 4 loader processes (the configs'
# workers_per_gpu) prefetches 2 batches of 2 samples, which wait in shared memory: 4 x 2 x 2 x 99 MiB = 1.5 GiB.
SHARED_MEMORY_NEEDED = 2 << 30  # bytes, for one GPU
_UNMAPPED = 65534  # how a user who is not in this user namespace looks from inside
_OPEN_FILES = 1024
_PROCESSES = 256
_DISK = 5 << 30  # bytes: a checkpoint of the full size with optimiser and EMA is about 1 GB, and several are kept
_MEMORY = 8 << 30  # bytes
_CGROUP = (Path("/sys/fs/cgroup/memory.max"), Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"))
_COUNTS = re.compile(r" *0*[1-9][0-9]{0,8} *(, *0*[1-9][0-9]{0,8} *)*$")  # OpenMP takes one for each level of nesting
_THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")


@check(
    "RD901",
    Group.LIMITS,
    "shared memory has room for the data loader",
    remedy="start the container with `--shm-size=16g` or `--ipc=host`",
    severity=Severity.OPTIONAL,
)
def shared_memory(environment: Environment) -> Iterator[Problem]:
    """DataLoader workers hand batches over through `/dev/shm`. A container has 64 MiB of it unless told otherwise; when
    it is full the workers die with `Bus error` or `unexpected bus error`, or everything waits for ever (pytorch#5040,
    #1355, mmdetection#1997). A GPU's four workers need about 2 GiB at full size.
    """
    try:
        found = os.statvfs(SHARED_MEMORY)
    except OSError as error:
        yield Problem(f"{SHARED_MEMORY} cannot be used ({error.strerror}), and the data loader works through it")
        return
    free = found.f_bavail * found.f_frsize
    if free < SHARED_MEMORY_NEEDED:
        needed = f"the data loader of one GPU needs {SHARED_MEMORY_NEEDED >> 20}"
        yield Problem(f"{SHARED_MEMORY} has {free >> 20} MiB free, and {needed}")


@check(
    "RD902",
    Group.LIMITS,
    "the mounted checkout can be written",
    remedy='start the container with `--user "$(id -u):$(id -g)"`',
    severity=Severity.OPTIONAL,
)
def workspace(environment: Environment) -> Iterator[Problem]:
    """In the image: results belong to the caller when the container runs as the caller. Looked at only there. A
    checkout that is mounted read-only is taken at its word, and results go to `/outputs`.
    """
    place = places.WORKSPACE
    if not places.in_image() or not places.is_mounted() or os.access(place, os.W_OK | os.X_OK):
        return
    if os.statvfs(place).f_flag & os.ST_RDONLY:
        return
    owner = place.stat()
    remedy = f"start the container with --user {owner.st_uid}:{owner.st_gid}"
    if owner.st_uid == _UNMAPPED or Path("/run/.containerenv").exists():  # podman leaves that file
        remedy = "start the container with podman's --userns=keep-id"
    yield Problem(f"{place} belongs to {owner.st_uid}:{owner.st_gid} and user {os.geteuid()} cannot write it", remedy)


@check(
    "RD903",
    Group.LIMITS,
    "enough files can be open",
    remedy="`ulimit -n 65536`, in a container `--ulimit nofile=65536`",
    severity=Severity.OPTIONAL,
)
def open_files(environment: Environment) -> Iterator[Problem]:
    """Every tensor that a worker hands over is an open file: `OSError: [Errno 24] Too many open files`, or `received 0
    items of ancdata`. 1024 do for a few workers.
    """
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != resource.RLIM_INFINITY and soft < _OPEN_FILES:
        yield Problem(f"at most {soft} files may be open, {_OPEN_FILES} are needed")


@check(
    "RD904",
    Group.LIMITS,
    "memory is not capped too low",
    remedy="`ulimit -v unlimited`, in a container a larger `--memory`",
    severity=Severity.OPTIONAL,
)
def memory(environment: Environment) -> Iterator[Problem]:
    """A cap on address space (`ulimit -v`, set by some clusters) stops CUDA, which reserves more than the GPU has; a
    cap on memory (a container's `--memory`, a job's request) kills workers without a word: `DataLoader worker (pid ...)
    is killed by signal: Killed`.
    """
    soft, _ = resource.getrlimit(resource.RLIMIT_AS)
    if soft != resource.RLIM_INFINITY and soft < 8 * _MEMORY:
        yield Problem(f"address space is limited to {soft >> 20} MiB (`ulimit -v`)")
    capped = _cgroup_limit()
    if capped is not None and capped < _MEMORY:
        cause = f"memory is limited to {capped >> 20} MiB by the container or the job"
        yield Problem(f"{cause}, {_MEMORY >> 30} GiB are needed")


@check(
    "RD905",
    Group.LIMITS,
    "enough processes may run",
    remedy="`ulimit -u 4096`, in a container `--ulimit nproc=4096`",
    severity=Severity.OPTIONAL,
)
def processes(environment: Environment) -> Iterator[Problem]:
    """Workers and their threads count: OpenBLAS says `pthread_create failed ... Resource temporarily unavailable`,
    Python `can't start new thread`.
    """
    soft, _ = resource.getrlimit(resource.RLIMIT_NPROC)
    if soft != resource.RLIM_INFINITY and soft < _PROCESSES:
        yield Problem(f"at most {soft} processes and threads may run, {_PROCESSES} are needed")


@check(
    "RD906",
    Group.LIMITS,
    "there is room on the disk",
    remedy="free some, or set TMPDIR or RACDINO_OUTPUTS to a larger disk",
    severity=Severity.OPTIONAL,
)
def disk(environment: Environment) -> Iterator[Problem]:
    """Checkpoints of the full size are about 1 GB each and several are kept; a full disk is noticed when one is
    written. RacDINO writes them whole or not at all, so none is damaged by it.
    """
    results = environment.variables.get("RACDINO_OUTPUTS") or "."
    for place in dict.fromkeys([results, environment.variables.get("TMPDIR") or "/tmp"]):
        try:
            found = os.statvfs(place)
        except OSError as error:
            yield Problem(f"{place}, where results or temporary files would go, cannot be used: {error.strerror}")
            continue
        if not Path(place).is_dir():
            yield Problem(f"{place} is no folder, and results or temporary files would go there")
        elif found.f_bavail * found.f_frsize < _DISK:
            free = found.f_bavail * found.f_frsize >> 20
            yield Problem(f"{place} has {free} MiB free, {_DISK >> 30} GiB are needed")


@check(
    "RD907",
    Group.LIMITS,
    "caches can be written",
    remedy="set XDG_CACHE_HOME (and NUMBA_CACHE_DIR, MPLCONFIGDIR) to a folder that you may write",
    severity=Severity.OPTIONAL,
)
def caches(environment: Environment) -> Iterator[Problem]:
    """torch, triton, numba and matplotlib keep compiled code and font lists in the home folder. With `--user 1234`,
    under Apptainer, or read-only there is none to write: `RuntimeError: cannot cache function` from numba (numba#4032),
    `/home/x/.cache` read-only (aslprep#391). The image sets these to a folder under `/tmp` by itself.
    """
    home = environment.variables.get("HOME", "")
    cache = environment.variables.get("XDG_CACHE_HOME") or (f"{home}/.cache" if home else "")
    if not cache:
        yield Problem("HOME is not set, so caches have no place")
    elif not _writable(Path(cache)):
        yield Problem(f"{cache} cannot be written by user {os.geteuid()}")


@check(
    "RD908",
    Group.LIMITS,
    "numbers of threads are sensible",
    remedy="`unset OMP_NUM_THREADS`, or a number up to the cores of this machine",
    severity=Severity.OPTIONAL,
)
def threads(environment: Environment) -> Iterator[Problem]:
    """`OMP_NUM_THREADS` that is no number stops libgomp with `Invalid value for environment variable`; far more threads
    than cores make every operator slower, by a factor that grows with them.
    """
    for name in _THREADS:
        value = environment.variables.get(name)
        if value is None:
            continue
        if not _COUNTS.match(value):
            yield Problem(f"{name} is {value!r}, no number of threads")
        elif max(int(count) for count in value.split(",")) > 4 * (os.cpu_count() or 1):
            yield Problem(f"{name} is {value} on {os.cpu_count()} cores")


@check(
    "RD909",
    Group.LIMITS,
    "the user has a name",
    remedy="`export USER=racdino LOGNAME=racdino`",
    severity=Severity.OPTIONAL,
)
def user_name(environment: Environment) -> Iterator[Problem]:
    """In a container that runs as `--user 12345` there is no line for that number in `/etc/passwd`, and what asks for
    the name, torch's compile cache among it, ends in `KeyError: 'getpwuid(): uid not found: 12345'`
    (pytorch#140765). Python takes the name from `LOGNAME` or `USER` before it looks there; the image sets them.
    """
    if environment.variables.get("LOGNAME") or environment.variables.get("USER"):
        return
    try:
        pwd.getpwuid(os.getuid())
    except KeyError:
        yield Problem(f"user {os.getuid()} has no name in /etc/passwd, and neither LOGNAME nor USER gives one")


def _cgroup_limit() -> int | None:
    for path in _CGROUP:
        try:
            said = path.read_text().strip()
        except OSError:
            continue
        return int(said) if said.isdigit() and int(said) < 1 << 60 else None
    return None


def _writable(folder: Path) -> bool:
    existing = next((place for place in (folder, *folder.parents) if place.exists()), folder)
    return existing.is_dir() and os.access(existing, os.W_OK | os.X_OK)
