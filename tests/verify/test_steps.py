"""The five steps of the record pass verbatim, in a shell, from the project root."""

from __future__ import annotations

from pathlib import Path

import pytest

from racdino.verify.errors import VerifyError
from racdino.verify.steps import STEPS, Step, run_step

ROOT = Path(__file__).resolve().parents[2]
RECORD = """\
python -c "import MultiScaleDeformableAttention; print('✅ 1/5')"
python -c "from models.backbones import DinoAdapter; print('✅ 2/5')"
python -c "from mmcv import Config; Config.fromfile('configs/racformer_r50_nuimg_704x256_f8_with_dinov2_fixed.py'); print('✅ 3/5')"
python check_dinov2_setup.py && echo "✅ 4/5"
python tools/verify_dinov2_config.py && echo "✅ 5/5"
"""  # noqa: E501  (as the user wrote them)


def test_the_steps_are_the_records():
    assert [step.command for step in STEPS] == RECORD.splitlines()


@pytest.mark.parametrize("document", ["README.md", "docs/zh/问题追踪记录.md", "docs/zh/DINOV2_导入问题修复指南.md"])
def test_documents_show_the_steps_verbatim(document):
    text = (ROOT / document).read_text(encoding="utf-8")
    assert [step.command for step in STEPS if step.command not in text] == []


@pytest.mark.parametrize("step", STEPS, ids=lambda step: step.title)
def test_a_step_passes(step):
    run_step(step, ROOT)


@pytest.mark.parametrize(
    ("command", "said"),
    [
        ("echo no; exit 3", "status 3; it said: no"),
        ("true", "it said: nothing"),
        ("echo '✅ 1/5' >&2; false", "status 1"),
    ],
)
def test_a_step_without_its_proof_fails(command, said):
    with pytest.raises(VerifyError, match=said):
        run_step(Step("title", command, "✅ 1/5"), ROOT)


def test_python_in_a_step_is_this_interpreter():
    run_step(Step("prefix", """python -c "import sys; print(sys.prefix)\"""", __import__("sys").prefix), ROOT)
