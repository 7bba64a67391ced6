"""Each fault of a machine or of a container's start is one sentence with its remedy, told from its neighbours."""

from __future__ import annotations

import os
from pathlib import Path
from types import SimpleNamespace

import pytest

from racdino.container import places
from racdino.doctor import gpu_driver
from racdino.doctor.check import CHECKS
from racdino.doctor.environment import at_start, limits
from racdino.doctor.environment.subject import Environment
from racdino.doctor.finding import Finding, Severity
from racdino.doctor.gpu_driver import Driver, Gpu
from racdino.environment.cubins import Targets

H100, B200, ADA = Gpu("NVIDIA H100", (9, 0)), Gpu("NVIDIA B200", (10, 0)), Gpu("NVIDIA L40", (8, 9))
TORCH = Targets(("3.7", "5.0", "6.0", "7.0", "7.5", "8.0", "8.6", "9.0"))  # 2.0.0+cu118
OURS = Targets(("7.0", "7.5", "8.0", "8.6", "8.9", "9.0"), ("9.0",))
INSTALLED = {
    "torch": TORCH,
    "racdino._C": OURS,
    "mmcv-full": OURS,
    "xformers flash": Targets(("7.5", "8.0", "8.6")),
}


class FakeLibrary:
    """libcuda.so.1 as `probe` calls it, with these GPUs."""

    def __init__(self, *gpus: Gpu, cuda: int = 12040, error: int = 0):
        self.gpus, self.cuda, self.error = gpus, cuda, error

    def cuDriverGetVersion(self, version):  # noqa: N802  (the driver's names)
        version._obj.value = self.cuda
        return 0

    def cuInit(self, flags):  # noqa: N802
        assert flags == 0
        return self.error

    def cuDeviceGetCount(self, count):  # noqa: N802
        assert not self.error
        count._obj.value = len(self.gpus)
        return 0

    def cuDeviceGet(self, device, number):  # noqa: N802
        device._obj.value = number
        return 0

    def cuDeviceGetName(self, name, size, device):  # noqa: N802
        name.value = self.gpus[device.value].name.encode()[: size - 1]
        return 0

    def cuDeviceGetAttribute(self, value, attribute, device):  # noqa: N802
        value._obj.value = self.gpus[device.value].capability[{75: 0, 76: 1}[attribute]]
        return 0


@pytest.fixture(autouse=True)
def machine(tmp_path, monkeypatch):
    monkeypatch.delenv("RACDINO_IMAGE", raising=False)
    monkeypatch.setattr(gpu_driver, "KERNEL_MODULE", tmp_path / "version")
    return tmp_path


def shared_memory(monkeypatch, free: float) -> Finding:
    """The finding on a /dev/shm with so many GiB free."""
    monkeypatch.setattr(os, "statvfs", lambda _: SimpleNamespace(f_bavail=int(free * 2**18), f_frsize=4096))
    return answer("RD901", Environment())


def answer(code: str, environment: Environment) -> Finding:
    (finding,) = CHECKS[code].findings(environment)
    return finding


def gpu_findings(driver: Driver, installed=INSTALLED, **variables: str) -> dict[str, Finding]:
    environment = Environment(driver=driver, variant="cu118", targets=installed, variables=variables)
    return {code: answer(code, environment) for code in ("RD201", "RD202", "RD203")}


def test_the_driver_is_asked_for_its_gpus(machine):
    (machine / "version").write_text(
        "NVRM version: NVIDIA UNIX x86_64 Kernel Module  550.54.15  Tue Mar  5 22:23:56 UTC 2024\nGCC version: 12\n"
    )
    found = gpu_driver.probe(lambda name: {"libcuda.so.1": FakeLibrary(H100, ADA)}[name])
    assert found == Driver(True, 12040, 0, (H100, ADA), "550.54.15")


def test_the_driver_of_the_open_kernel_module_has_its_release_read_too(machine):
    (machine / "version").write_text(
        "NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  570.86.15  Release Build  (dvs)\n"
    )
    assert gpu_driver.probe(lambda _: FakeLibrary()).release == "570.86.15"


def test_a_driver_that_does_not_start_is_not_asked_further():
    assert gpu_driver.probe(lambda _: FakeLibrary(H100, error=803)) == Driver(True, 12040, 803)


def no_library(_: str):
    raise OSError("libcuda.so.1: cannot open shared object file")


def test_without_the_drivers_library_the_start_of_the_container_is_to_blame(machine):
    assert gpu_driver.probe(no_library) == Driver()
    found = gpu_findings(Driver())["RD201"]
    assert found.severity is Severity.OPTIONAL
    assert found.cause == "no GPU is visible: the driver's libcuda.so.1 is not here"
    for option in ("--gpus all", "NVIDIA container toolkit", "--device nvidia.com/gpu=all"):
        assert option in found.remedy
    assert "the host has NVIDIA driver 550.54.15, but" in gpu_findings(Driver(release="550.54.15"))["RD201"].cause


def test_with_the_library_and_no_device_the_choice_of_devices_is_to_blame():
    for error in (0, 100):
        found = gpu_findings(Driver(library=True, cuda=12040, error=error))["RD201"]
        assert "it finds no device" in found.cause
        assert "NVIDIA_VISIBLE_DEVICES" in found.remedy
    found = gpu_findings(Driver(library=True, error=100), CUDA_VISIBLE_DEVICES="7")["RD201"]
    assert found.cause.endswith("CUDA_VISIBLE_DEVICES is '7'")


def test_a_driver_that_does_not_start_is_an_error_with_its_number():
    found = gpu_findings(Driver(library=True, error=803, release="550.54.15"))["RD201"]
    assert found.severity is Severity.ERROR
    assert "driver 550.54.15 does not start, cuInit returned 803" in found.cause


@pytest.mark.parametrize(
    ("cuda", "severity"),
    [(10020, Severity.ERROR), (11070, Severity.OPTIONAL), (11080, Severity.OK), (13000, Severity.OK)],
)
def test_a_driver_older_than_cuda_11_8_is_named_with_the_one_to_install(cuda, severity):
    found = gpu_findings(Driver(True, cuda, 0, (H100,), "515.65.01"))["RD202"]
    assert found.severity is severity
    if severity is not Severity.OK:
        assert f"driver 515.65.01 serves CUDA {cuda // 1000}.{cuda % 100 // 10}" in found.cause
        assert "520.61.05" in found.remedy


def test_every_gpu_that_the_image_promises_has_code():
    for gpu in (Gpu("V100", (7, 0)), Gpu("T4", (7, 5)), Gpu("A100", (8, 0)), Gpu("A10", (8, 6)), ADA):
        found = gpu_findings(Driver(True, 12040, 0, (gpu,)))["RD203"]
        assert found.severity is Severity.OK
    assert gpu_findings(Driver(True, 12040, 0, (H100,)))["RD203"].severity is Severity.OK  # xformers has no code for it


def test_a_gpu_in_no_cubin_is_an_error_that_says_what_there_is():
    found = gpu_findings(Driver(True, 13000, 0, (B200,)))["RD203"]
    assert found.severity is Severity.ERROR
    assert found.cause == f"no code for NVIDIA B200 (10.0): torch has {TORCH}"  # the ops' PTX would do
    assert "another GPU" in found.remedy


def test_hopper_with_a_torch_of_cuda_11_7_is_told_which_torch_to_install():
    of_the_index = {**INSTALLED, "torch": Targets(("3.7", "5.0", "6.0", "7.0", "7.5", "8.0", "8.6"))}
    found = gpu_findings(Driver(True, 12040, 0, (H100,)), of_the_index)["RD203"]
    assert found.cause == "no code for NVIDIA H100 (9.0): torch has 3.7 5.0 6.0 7.0 7.5 8.0 8.6"
    assert "torch==2.0.0+cu118" in found.remedy


def test_mmcv_compiled_without_cuda_is_an_error_and_mmcv_that_is_not_there_is_not_this_checks():
    hopper = Driver(True, 12040, 0, (H100,))
    found = gpu_findings(hopper, {**INSTALLED, "mmcv-full": Targets()})["RD203"]
    assert found.cause == "no code for NVIDIA H100 (9.0): mmcv-full has none"
    assert "TORCH_CUDA_ARCH_LIST=9.0" in found.remedy
    without = {name: of for name, of in INSTALLED.items() if name != "mmcv-full"}
    assert gpu_findings(hopper, without)["RD203"].severity is Severity.OK


def test_small_shared_memory_is_found_before_the_data_loader_dies_of_it(monkeypatch):
    small = shared_memory(monkeypatch, 0.0625)  # an engine's default, 64 MiB
    assert small.cause == "/dev/shm has 64 MiB free, and the data loader of one GPU needs 2048"
    assert "--shm-size=16g" in small.remedy
    assert "--ipc=host" in small.remedy
    assert shared_memory(monkeypatch, 1.99).severity is Severity.OPTIONAL
    assert shared_memory(monkeypatch, 2).severity is Severity.OK


def test_the_bound_covers_the_batches_of_the_configs():
    from racdino.openmmlab.configs import read_config

    config = read_config(Path(places.PROJECT / "configs/racformer_r50_nuimg_704x256_f8.py"))
    sample = 6 * config["num_frames"] * 704 * 256 * 3 * 4  # bytes
    waiting = config["data"]["workers_per_gpu"] * 2 * config["batch_size"]  # torch prefetches two batches a worker
    assert waiting * sample <= limits.SHARED_MEMORY_NEEDED


def test_the_cpu_variant_asks_for_no_gpu(monkeypatch):
    monkeypatch.setattr("racdino.doctor.environment.subject.probe", lambda: pytest.fail("the driver was asked"))
    environment = Environment(variant="cpu")
    for code in ("RD201", "RD202", "RD203"):
        assert answer(code, environment).severity is Severity.OK


def test_warnings_are_a_line_each_and_leave_out_what_is_in_order(monkeypatch):
    def lines(cuda: int) -> list[str]:
        driver = Driver(True, cuda, 0, (H100,))
        return at_start.start_warnings(Environment(driver=driver, variant="cu118", targets=INSTALLED))

    shared_memory(monkeypatch, 0.0625)
    assert len(lines(11070)) == 2
    assert all("\n" not in line for line in lines(11070))
    shared_memory(monkeypatch, 8)
    assert lines(12040) == []


@pytest.fixture
def mounted(machine, monkeypatch):
    workspace = machine / "workspace"
    workspace.mkdir()
    (workspace / "train.py").touch()
    monkeypatch.setattr(places, "WORKSPACE", workspace)
    monkeypatch.setenv("RACDINO_IMAGE", "1")
    return workspace


def test_a_workspace_that_is_someone_elses_names_the_option_that_helps(mounted, monkeypatch):
    assert answer("RD902", Environment()).severity is Severity.OK
    monkeypatch.setattr(os, "access", lambda *_: False)
    owner = mounted.stat()
    found = answer("RD902", Environment())
    assert found.severity is Severity.OPTIONAL
    assert found.cause == f"{mounted} belongs to {owner.st_uid}:{owner.st_gid} and user {os.geteuid()} cannot write it"
    assert found.remedy == f"start the container with --user {owner.st_uid}:{owner.st_gid}"


def test_a_workspace_of_a_user_outside_the_user_namespace_asks_for_podmans_option(mounted, monkeypatch):
    monkeypatch.setattr(os, "access", lambda *_: False)
    monkeypatch.setattr(Path, "stat", lambda *_, **__: SimpleNamespace(st_uid=65534, st_gid=65534, st_mode=0o40755))
    assert "--userns=keep-id" in answer("RD902", Environment()).remedy


def test_a_workspace_that_was_mounted_read_only_is_no_fault(mounted, monkeypatch):
    monkeypatch.setattr(os, "access", lambda *_: False)
    monkeypatch.setattr(os, "statvfs", lambda _: SimpleNamespace(f_flag=os.ST_RDONLY))
    assert answer("RD902", Environment()).severity is Severity.OK


@pytest.mark.cuda
def test_the_real_driver_agrees_with_torch():
    import torch

    found = gpu_driver.probe()
    expected = [torch.cuda.get_device_capability(number) for number in range(torch.cuda.device_count())]
    assert [gpu.capability for gpu in found.gpus] == expected
    assert [gpu.name for gpu in found.gpus] == [torch.cuda.get_device_name(n) for n in range(len(expected))]
    assert found.cuda >= 11000
