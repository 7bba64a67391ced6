"""Make the environment beside the old one, prove it whole, and only then put it in its place."""

from __future__ import annotations

import dataclasses
import os
import platform
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from racdino.environment import cubins, manifest
from racdino.environment.locks import Pin, digest, read_header
from racdino.environment.state import State, state_path, write_state
from scripts.setup.errors import SetupError
from scripts.setup.machine import Compilers
from scripts.setup.plan import COMPILED, Plan, why_environment_is_stale
from scripts.setup.tools import Tools
from scripts.setup.wheels import Recipe, Wheel, ensure_wheel

# Usual seconds, measured on two cores (cpu); those for GPUs are estimates, corrected as ninja counts.
_PACKAGES = 100.0
_CORE_SECONDS = {("mmcv-full", "cpu"): 720.0, ("mmcv-full", "cu118"): 10800.0, ("flash-attn", "cu118"): 36000.0}
_PURE_PYTHON = 15.0
# GiB that one compiler takes where it is more than usual (an estimate, on the safe side).
_COMPILER_GIB = {"flash-attn": 8}
_EXTENSION = 90.0


@dataclasses.dataclass(frozen=True)
class Builder:
    """Everything that a build needs, and the folders that it works in."""

    plan: Plan
    tools: Tools
    compilers: Compilers
    cache: Path

    @property
    def fresh(self) -> Path:
        return self.plan.fresh

    @property
    def python(self) -> Path:
        return self.fresh / "bin" / "python"

    def environment(self) -> None:
        """The whole of .venv. A killed run is continued: finished packages, objects and wheels are kept."""
        if why_environment_is_stale(self.plan, self.fresh) is not None:
            self._packages()
            wheels = self._wheels()
            self._install_checkout(self.python)
            self._finish(self.fresh, {name: wheel.sha256 for name, wheel in wheels.items()})
        swap(self.fresh, self.plan.prefix)

    def checkout(self, state: State) -> None:
        """Our own extension and package in an environment whose packages are as planned."""
        prefix = self.plan.prefix
        python = prefix / "bin" / "python"
        self._compile(python)
        if state.project == self.plan.project_digest():
            write_state(prefix, self.plan.wanted_state(state.packages, state.wheels))
            return
        state_path(prefix).unlink()
        self._install_checkout(python)
        self._finish(prefix, state.wheels)

    def _packages(self) -> None:
        done = self.fresh / manifest.NOTES / "packages"
        wanted = "\n".join([platform.python_version(), *self.plan.lock_digests().values()])
        if done.is_file() and done.read_text(encoding="utf-8") == wanted and self.python.exists():
            return
        remove(self.fresh)
        uv, python = self.tools.uv, self.python
        base = Path(sys.executable).resolve()
        self.tools.run([uv, "venv", "--relocatable", "--python", base, self.fresh], "Environment: creating", 2)
        # The locked setuptools must be there before the first sdist is built.
        environment = self.plan.root / "environment"
        locked = ["--require-hashes", "--no-build-isolation"]
        self.tools.uv_pip("install", python, [*locked, "-r", environment / "build.lock"], "Build tools: installing", 5)
        pins = {name: pin for name, pin in self.plan.pins().items() if name not in COMPILED}
        requirements = self.fresh / "requirements.txt"
        requirements.write_text("".join(_requirement(pin) for pin in pins.values()))
        label = f"{len(pins)} packages: fetching and installing"
        self.tools.uv_pip("sync", python, [*locked, requirements], label, _PACKAGES)
        requirements.unlink()
        done.parent.mkdir(exist_ok=True)
        done.write_text(wanted, encoding="utf-8")

    def wheel(self, name: str) -> Wheel:
        """The wheel of one of the packages that are compiled here, from the cache or new."""
        recipe, facts = self._recipes()[name]
        return ensure_wheel(self.tools, self.python, recipe, facts, self.cache)

    def _wheels(self) -> dict[str, Wheel]:
        wheels = {name: self.wheel(name) for name in self._recipes()}
        paths = [wheel.path for wheel in wheels.values()]
        label = f"{', '.join(wheels)}: installing"
        self.tools.uv_pip("install", self.python, ["--no-deps", "--reinstall", "--no-index", *paths], label, 5)
        return wheels

    def _recipes(self) -> dict[str, tuple[Recipe, dict[str, Any]]]:
        """What is compiled here, and everything besides its own sdist and switches that shapes the result."""
        pins = self.plan.pins()
        facts = {
            "torch": pins["torch"]._asdict(),
            "python": sys.version,
            "machine": platform.machine(),
            "libc": platform.libc_ver(),
            "compilers": dataclasses.asdict(self.compilers),
            "flags": {name: os.environ.get(name, "") for name in ("CFLAGS", "CXXFLAGS", "CPPFLAGS", "LDFLAGS")},
            "build.lock": digest(self.plan.root / "environment" / "build.lock"),
        }
        switches = {
            "mmcv-full": {**self._cuda_switches(), "MMCV_WITH_OPS": "1"},
            "mmdet3d": {},
            # Without it flash-attn's setup.py downloads a wheel that nobody hashed.
            "flash-attn": {**self._cuda_switches(), "FLASH_ATTENTION_FORCE_BUILD": "TRUE"},
        }
        jobs = int(self.tools.variables["MAX_JOBS"])
        recipes = {}
        for name in COMPILED:
            if name in pins:
                core_seconds = _CORE_SECONDS.get((name, self.plan.variant))
                expected = core_seconds / jobs if core_seconds else _PURE_PYTHON
                recipes[name] = (Recipe(pins[name], switches[name], expected, _COMPILER_GIB.get(name, 2)), facts)
        return recipes

    def _cuda_switches(self) -> dict[str, str]:
        """Targets are stated, never probed: the machine that compiles need not have the GPU, or may have another."""
        if self.plan.variant == "cpu":
            return {"FORCE_CUDA": "0", "CUDA_VISIBLE_DEVICES": ""}
        targets = read_header(self.plan.root / "environment" / "build.lock")["arch-list"].replace(" ", ";")
        home = self.compilers.cuda_home or ""
        compiler = {"CUDA_HOME": home, "CUDAHOSTCXX": self.compilers.cxx}
        return {"FORCE_CUDA": "1", "TORCH_CUDA_ARCH_LIST": targets, **compiler}

    def _compile(self, python: Path) -> None:
        """racdino._C alone, for an environment that has the checkout installed."""
        switches = self._cuda_switches()
        self.tools.run([python, "setup.py", "build_ext", "--inplace"], "racdino._C: compiling", _EXTENSION, switches)

    def _install_checkout(self, python: Path) -> None:
        """Editable: what is edited in the checkout is what runs. Compiles racdino._C where its cache has none."""
        # -v: uv passes on what the compiler says, and with it ninja's count.
        options = ["-v", "--no-deps", "--no-build-isolation", "--no-index", "--reinstall-package", "racdino"]
        label = "racdino: compiling and installing the checkout"
        options += ["--editable", str(self.plan.root)]
        self.tools.uv_pip("install", python, options, label, _EXTENSION, self._cuda_switches())

    def _finish(self, prefix: Path, wheels: dict[str, str]) -> None:
        """Prove every file, then say that the environment is finished."""
        print("Every file: comparing with the hash in its archive (about 10 s) ...", flush=True)
        try:
            manifest.record(prefix, self.plan.locks, wheels)
        except manifest.ManifestError as error:
            remove(self.fresh)
            raise SetupError(f"{error} Run `make setup` again: the packages are unpacked anew.") from error
        if self.plan.variant == "cu118":  # what `racdino doctor` holds against the GPU that it finds
            cubins.write(prefix)
        write_state(prefix, self.plan.wanted_state(manifest.installed_versions(prefix), wheels))


def swap(fresh: Path, prefix: Path, rename: Callable[[Path, Path], object] = Path.rename) -> None:
    """Put ``fresh`` in the place of ``prefix``; killed at any point, the next setup finds one of the two finished."""
    old = prefix.with_name(".venv.old")
    remove(old)
    if prefix.exists():
        rename(prefix, old)
    rename(fresh, prefix)
    remove(old)


def remove(folder: Path) -> None:
    """Delete an environment, its state first, so that a part of it never passes for the whole."""
    if folder.is_dir():
        state_path(folder).unlink(missing_ok=True)
        shutil.rmtree(folder)


def _requirement(pin: Pin) -> str:
    requirement = f"{pin.name} @ {pin.url}" if pin.url else f"{pin.name}=={pin.version}"
    return requirement + "".join(f" --hash=sha256:{value}" for value in pin.hashes) + "\n"
