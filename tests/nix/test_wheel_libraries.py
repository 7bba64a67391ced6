"""The Nix shell gives the wheels every library that they take from the system."""

from __future__ import annotations

import re
import shutil
import subprocess
import sysconfig
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
C_LIBRARY = {"ld-linux-x86-64.so.2", "libc.so.6", "libm.so.6"}
C_LIBRARY |= {"libdl.so.2", "libpthread.so.0", "librt.so.1", "libutil.so.1"}
WITH_THE_C_LIBRARY = {"libgcc_s.so.1"}  # nixpkgs' C library carries its own copy, for pthread_cancel
OPTIONAL = {"libtbb.so.12", "libgomp.so.1.0.0"}  # numba's thread pools: it takes its own where they do not load
DRIVER = {"libcuda.so.1"}


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("readelf") is None, reason="needs readelf (apt install binutils)")
def test_the_shell_has_what_the_wheels_take_from_the_system():
    site = Path(sysconfig.get_paths()["platlib"])
    files = [path for path in site.rglob("*.so*") if re.search(r"\.so(\.\d+)*$", path.name) and not path.is_symlink()]
    answer = subprocess.run(["readelf", "-dW", *map(str, files)], capture_output=True, text=True, check=False).stdout
    found = {key: set(re.findall(rf"\({key}\).*\[(.+)\]", answer)) for key in ("NEEDED", "SONAME")}
    missing = found["NEEDED"] - found["SONAME"] - {path.name for path in files}
    given = set(re.findall(r"/lib/(lib\S+\.so\.\d+) ", (ROOT / "nix/environment.nix").read_text(encoding="utf-8")))
    assert "libstdc++.so.6" in missing  # the search found something
    assert missing <= given | C_LIBRARY | WITH_THE_C_LIBRARY | OPTIONAL | DRIVER
