"""The known texts are what is really printed: errors that Python makes here, and the sources of installed packages."""

from __future__ import annotations

import importlib.util
import re
import subprocess
import sys
from pathlib import Path

import pytest

from racdino.doctor.explain.known import literals
from racdino.doctor.explain.search import find
from racdino.doctor.explain.texts import ALL

KNOWN = {known.key: known for known in ALL}

# What makes each error, as the body of a program in an empty folder; FILES are put there first.
ERRORS = {
    "RX421": "import MultiScaleDeformableAttention as MSDA",
    "RX509": "from flash_attn.bert_padding import unpad_input",
    "RX601": "import package_of_record_1",
    "RX602": "from nets.dino_v2_with_adapter.dino_v2.layers import Mlp",
    "RX603": "import circle",
    "RX607": "import models.backbones",
    "RX608": "import runpy; runpy.run_path('relative.py', run_name='__main__')",
    "RX609": "from models_of_record import DinoAdapter",
    "RX611": "import torch",
    "RX613": "import merged",
    "RX614": "import chinese",
    "RX801": "print({'metainfo': {}, 'data_list': []}['infos'])",
    "RX803": "open('data/nuscenes/nuscenes_infos_train_sweep.pkl', 'rb')",
    "RX805": "open('data/nuscenes/samples/CAM_FRONT/n015.jpg', 'rb')",
    "RX808": "import pickle; pickle.loads(pickle.dumps(list(range(1000)))[:-9] )",
    "RX810": "import pickle; pickle.loads(b'<!DOCTYPE html>')",
    "RX811": "import pickle; pickle.loads(b'version https://git-lfs.github.com/spec/v1')",
    "RX816": "open('/home/nobody-of-this-name/data.json')",
    "RX904": "open('/dev/full', 'w', buffering=1).write('x' * 99 + chr(10))",
    "RX905": "import pwd; pwd.getpwuid(4_000_000_123)",
    "RX979": "input('Delete it? (y/n)')",
    "RX980": "import argparse, sys; sys.argv[1:] = ['--local-rank=0']; argparse.ArgumentParser().parse_args()",
}
FILES = {
    "package_of_record_1.py": "from dino_v2_adapter import __all__\n",
    "circle.py": "from other_half import B\n\nA = 1\n",
    "other_half.py": "from circle import A\n\nB = 2\n",
    "relative.py": "from .sibling import name\n",
    "models_of_record.py": "__all__ = []\n",
    "merged.py": "<<<<<<< HEAD\nx = 1\n=======\nx = 2\n>>>>>>> other\n",
    "chinese.py": "NAME = '雷达'\n",
}


@pytest.mark.parametrize("key", ERRORS)
def test_error_made_here_is_explained(key, tmp_path):
    for name, text in FILES.items():
        (tmp_path / name).write_text(text, encoding="gbk")
    program = tmp_path / "train.py"
    program.write_text(ERRORS[key])
    command = [sys.executable, "-S", "-E", str(program)]  # without site-packages, so that nothing is installed
    ran = subprocess.run(command, cwd=tmp_path, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60)
    assert ran.returncode
    assert [match.known.key for match in find(ran.stderr, ALL)][:1] == [key], ran.stderr


# The file of an installed package that says it.
SOURCES = {
    "RX202": "torch/cuda/__init__.py",
    "RX212": "torch/cuda/__init__.py",
    "RX304": "numba/__init__.py",
    "RX316": "mmdet3d/__init__.py",
    "RX318": "torch/utils/tensorboard/__init__.py",
    "RX319": "torchvision/extension.py",
    "RX401": "torch/utils/cpp_extension.py",
    "RX402": "torch/utils/cpp_extension.py",
    "RX406": "torch/utils/cpp_extension.py",
    "RX415": "torch/utils/cpp_extension.py",
    "RX437": "mmcv/ops/csrc/pytorch/cuda/ms_deform_attn_cuda.cu",
    "RX506": "xformers/_cpp_lib.py",
    "RX604": "mmcv/utils/registry.py",
    "RX605": "mmcv/utils/registry.py",
    "RX703": "torch/nn/modules/module.py",
    "RX705": "mmcv/utils/config.py",
    "RX706": "mmcv/utils/config.py",
    "RX712": "mmcv/utils/registry.py",
    "RX713": "torch/nn/modules/batchnorm.py",
    "RX714": "torch/nn/functional.py",
    "RX715": "mmcv/runner/checkpoint.py",
    "RX716": "torch/nn/modules/module.py",
    "RX804": "nuscenes/nuscenes.py",
    "RX807": "PIL/ImageFile.py",
    "RX812": "nuscenes/eval/detection/evaluate.py",
    "RX813": "nuscenes/eval/common/loaders.py",
    "RX902": "torch/utils/data/dataloader.py",
    "RX906": "numba/core/caching.py",
    "RX912": "matplotlib/__init__.py",
    "RX981": "torch/distributed/rendezvous.py",
    "RX982": "torch/distributed/distributed_c10d.py",
    "RX984": "torch/onnx/_internal/diagnostics/_rules.py",
    "RX422": "racdino/ops/_library.py",
    "RX423": "racdino/ops/_library.py",
}


@pytest.mark.parametrize("key", SOURCES)
def test_installed_package_says_it_in_these_words(key):
    package, _, rest = SOURCES[key].partition("/")
    found = importlib.util.find_spec(package)
    if found is None or not found.submodule_search_locations:
        pytest.skip(f"{package} is not installed")
    path = Path(found.submodule_search_locations[0]) / rest
    source = re.sub(r"\\n|[ '\"]*\n\s*[fr]?['\"]*|\{[^{}]*\}|%[rs]", " ", path.read_text(encoding="utf-8"))
    source = re.sub(r"[\s'\"\\]+", " ", source)
    texts = [[re.sub(r"[\s'\"]+", " ", piece).strip() for piece in literals(text)] for text in KNOWN[key].texts]
    assert any(all(piece in source for piece in pieces) for pieces in texts), texts
