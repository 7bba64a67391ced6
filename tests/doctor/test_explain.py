"""`racdino doctor explain` finds each known problem, the deepest cause first, and nothing in healthy logs."""

from __future__ import annotations

import os
import re
import time
from pathlib import Path

import pytest

from racdino.doctor.explain.known import GAP, Known, Role
from racdino.doctor.explain.search import find
from racdino.doctor.explain.texts import ALL, THEMES
from racdino.doctor.explain.tracebacks import Sections

TRACEBACKS = Path(__file__).with_name("tracebacks")
CAUSED = "\nThe above exception was the direct cause of the following exception:\n\n"
WHILE = "\nDuring handling of the above exception, another exception occurred:\n\n"
TRACEBACK = 'Traceback (most recent call last):\n  File "train.py", line 3, in <module>\n'


def keys(text: str) -> list[str]:
    return [match.known.key for match in find(text, ALL)]


@pytest.mark.parametrize("key", [known.key for known in ALL])
def test_traceback_is_explained_by_its_own_key_first(key):
    assert keys((TRACEBACKS / f"{key}.txt").read_text(encoding="utf-8"))[0] == key


def test_every_traceback_has_its_key():
    assert sorted(path.name for path in TRACEBACKS.iterdir()) == sorted(f"{known.key}.txt" for known in ALL)


@pytest.mark.parametrize(("known", "text"), [(known, text) for known in ALL for text in known.texts])
def test_each_way_of_saying_it_is_found_alone(known, text):
    assert keys(f"{known.within}\n{text.replace(GAP, 'gap')}\n") == [known.key]


def test_keys_are_unique_in_order_and_sixty_at_least():
    assert len(ALL) >= 60
    assert all(re.fullmatch(r"RX[1-9]\d\d", known.key) for known in ALL)
    for _, theme in THEMES:
        assert [known.key for known in theme] == sorted({known.key for known in theme})
    assert len({known.key for known in ALL}) == len(ALL)


@pytest.mark.parametrize("known", ALL, ids=lambda known: known.key)
def test_entry_is_a_cause_and_a_remedy_without_loose_ends(known):
    for sentence in (known.cause, known.remedy):
        assert sentence
        assert sentence[-1] not in ".;, "
        assert sentence.count("`") % 2 == 0
        assert "{0}" not in sentence or all(GAP in text for text in known.texts), "every text must fill the gap"
    assert known.source
    assert all(len(piece) >= 6 for text in known.texts for piece in [max(text.split(GAP), key=len)])


# ---------------------------------------------------------------- order

OPENGL = f"{TRACEBACK}ImportError: libGL.so.1: cannot open shared object file: No such file or directory\n"
NO_OP = f"{TRACEBACK}ModuleNotFoundError: No module named 'MultiScaleDeformableAttention'\n"


def test_of_a_direct_cause_the_first_is_the_deepest():
    assert keys(OPENGL + CAUSED + NO_OP) == ["RX321", "RX421"]


def test_what_was_being_handled_comes_after_what_stopped_the_program():
    assert keys(OPENGL + WHILE + NO_OP) == ["RX421", "RX321"]


def test_of_two_tracebacks_the_last_is_first():
    assert keys(OPENGL + "going on without pictures\n" + NO_OP) == ["RX421", "RX321"]


def test_an_earlier_traceback_does_not_come_before_the_last_chain():
    unknown = f"{TRACEBACK}ValueError: 3\n"
    assert keys(OPENGL + "going on without pictures\n" + unknown + CAUSED + NO_OP) == ["RX421", "RX321"]


def test_warnings_come_last_and_consequences_before_them():
    warning = "UserWarning: xFormers is not available (Attention)\n"
    after = "torch.distributed.elastic.multiprocessing.errors.ChildFailedError:\n"
    assert keys(NO_OP + warning + after) == ["RX421", "RX973", "RX505"]


def test_the_more_specific_of_two_on_one_line_wins():
    message = "RuntimeError: CUDA error: no kernel image is available for execution on the device"
    frame = '  File "/venv/lib/python3.10/site-packages/mmcv/ops/focal_loss.py", line 51, in forward\n'
    assert keys(TRACEBACK + frame + message) == ["RX203"]
    assert keys(TRACEBACK + message) == ["RX201"]


def test_a_frame_of_another_traceback_does_not_count():
    message = "RuntimeError: CUDA error: no kernel image is available for execution on the device\n"
    other = TRACEBACK + '  File "/venv/mmcv/ops/focal_loss.py", line 51, in forward\nValueError: 3\n'
    assert keys(other + TRACEBACK + message) == ["RX201"]


def test_the_same_error_of_eight_ranks_is_said_once_with_the_last_line():
    ranks = "".join(f"[rank{rank}]: ModuleNotFoundError: No module named 'flash_attn'\n" for rank in range(8))
    (match,) = find(ranks, ALL)
    assert match.known.key == "RX509"
    assert match.line == 8


def test_sections_follow_the_headings():
    text = "before\n" + OPENGL + CAUSED + NO_OP + WHILE + NO_OP
    places = [Sections(text).at(text.index(word)) for word in ("before", "libGL", "MultiScale")]
    assert [(section.chain, section.place) for section in places] == [(0, 0), (1, 0), (1, 1)]
    last = Sections(text).at(text.rindex("MultiScale"))
    assert (last.chain, last.place) == (2, 0)


# ---------------------------------------------------------------- how the text came


@pytest.mark.parametrize(
    "around",
    [
        "2026-02-14 10:04:51,260 - mmdet - ERROR - {}",
        "\x1b[31m{}\x1b[0m",
        "train-1  | [rank3]: {}\r",
        "0: {}",
        "{" + '"log":"{}","stream":"stderr"' + "}",
    ],
    ids=["logger", "colours", "compose", "srun", "json"],
)
def test_what_a_logger_puts_around_a_line_does_not_matter(around):
    assert keys(around.replace("{}", "ModuleNotFoundError: No module named 'mmcv._ext'") + "\n") == ["RX432"]


def test_colours_inside_the_message_do_not_hide_it():
    assert keys("\x1b[1m\x1b[31mAttributeError\x1b[0m: module 'numpy' has \x1b[33mno attribute\x1b[0m 'bool'") == [
        "RX301"
    ]


def test_what_is_repeated_from_the_text_is_short_and_printable():
    (match,) = find(f"unresolvable CDI devices \x07nvidia.com/gpu=\u202e{'x' * 9000}\n", ALL)
    assert match.seen.isprintable()
    assert match.cause.isprintable()
    assert len(match.seen) < 300
    assert len(match.cause) < 400


def test_braces_of_the_text_stay_as_they_are():
    (match,) = find("KeyError: \"Duplicate key is not allowed among bases. Duplicate keys: {'model', {0}}\"", ALL)
    assert "{'model', {0}}" in match.cause


def test_both_ends_of_an_endless_line_are_read():
    assert keys(NO_OP.strip() + "x" * 100_000) == ["RX421"]
    assert keys("x" * 100_000 + " No module named 'flash_attn'") == ["RX509"]


# ---------------------------------------------------------------- not known

HEALTHY = {
    "training": """2026-02-14 10:05:21,118 - mmdet - INFO - Start running, host: user0@lab3, work_dir: outputs
2026-02-14 10:05:21,119 - mmdet - INFO - workflow: [('train', 1)], max: 24 epochs
2026-02-14 10:06:31,718 - mmdet - INFO - Epoch [1][50/7033]  lr: 8.000e-05, time: 1.402, data_time: 0.03,
memory: 17801, loss_cls: 1.9211, loss_bbox: 2.2210, loss: 18.2210, grad_norm: 51.0021
2026-02-14 12:40:02,001 - mmdet - INFO - Saving checkpoint at 1 epochs
[>>>>>>>>>>>>>>>>>>>>>>>>>>>>] 6019/6019, 11.2 task/s, elapsed: 537s, ETA:     0s
mAP: 0.4412  mATE: 0.5511  NDS: 0.5402
""",
    "pip": """Collecting numpy==1.23.5
  Downloading numpy-1.23.5-cp310-cp310-manylinux_2_17_x86_64.manylinux2014_x86_64.whl (17.1 MB)
Requirement already satisfied: torch==2.0.0 in ./.venv/lib/python3.10/site-packages (2.0.0)
Building wheels for collected packages: mmdet3d
  Building wheel for mmdet3d (setup.py): finished with status 'done'
Successfully built mmdet3d
Successfully installed mmcv-full-1.6.0 mmdet-2.28.2 numpy-1.23.5 xformers-0.0.19 yapf-0.40.1
""",
    "compiler": """[1/3] c++ -MMD -MF cpu/ms_deform_attn.o.d -fPIC -std=c++17 -c racdino/csrc/cpu/ms_deform_attn.cpp
[2/3] /usr/local/cuda-11.8/bin/nvcc -gencode=arch=compute_90,code=sm_90 -c racdino/csrc/cuda/ms_deform_attn.cu
racdino/csrc/cuda/ms_deform_attn.cu(41): warning #177-D: variable "x" was declared but never referenced
[3/3] c++ -shared -o _C.so -lc10 -ltorch -lcudart -L/usr/local/cuda-11.8/lib64
""",
    "xformers": "UserWarning: xFormers is available (Attention)\nUserWarning: xFormers is available (Block)\n",
    "five steps": "✅ 1/5\n✅ 2/5\n✅ 3/5\nok        RD401   MultiScaleDeformableAttention imports\n✅ 4/5\n",
    "gpu": "| NVIDIA-SMI 535.183.01  CUDA Version: 12.2 |\n| 0  NVIDIA H100 | 71000MiB / 81559MiB |",
    "deprecation": "UserWarning: torch.meshgrid: in an upcoming release, the indexing argument is required.\n",
}
UNRELATED = {
    "arithmetic": TRACEBACK + "ZeroDivisionError: division by zero",
    "key": TRACEBACK + "KeyError: 'velocity'",
    "module": TRACEBACK + "ModuleNotFoundError: No module named 'flask'",
    "module of a similar name": TRACEBACK + "ModuleNotFoundError: No module named 'torchaudio'",
    "numpy": TRACEBACK + "AttributeError: module 'numpy' has no attribute 'bool8x'",
    "attribute": TRACEBACK + "AttributeError: 'NoneType' object has no attribute 'shape'",
    "assertion": TRACEBACK + "AssertionError",
    "java": 'Exception in thread "main" java.lang.NullPointerException\n\tat Main.main(Main.java:5)',
    "shell": "bash: line 3: foo: command not found",
    "interrupt": TRACEBACK + "KeyboardInterrupt",
    "file": TRACEBACK + "FileNotFoundError: [Errno 2] No such file or directory: 'notes.txt'",
    "shapes": TRACEBACK + "ValueError: cannot reshape array of size 12 into shape (5,)",
    "http": TRACEBACK + "urllib.error.HTTPError: HTTP Error 404: Not Found",
    "prose": "Training stopped yesterday evening and I do not know why. Could you have a look?",
    "empty": "",
    "blank": "\n \n\t\n",
}


@pytest.mark.parametrize("name", [*HEALTHY, *UNRELATED])
def test_nothing_is_known_about_what_is_healthy_or_unrelated(name):
    assert keys({**HEALTHY, **UNRELATED}[name]) == []


def test_a_word_of_the_text_alone_is_not_enough():
    for known in ALL:
        for text in known.texts:
            pieces = [piece for piece in text.split(GAP) if piece]
            if len(pieces) > 1:
                assert known.key not in keys(f"{known.within}\n" + "\n".join(pieces)), "pieces on several lines"
        if known.within:
            assert known.key not in keys("\n".join(known.texts)), "without its traceback"


# ---------------------------------------------------------------- time

SIZE = 4 << 20
_EVERYTHING = "\n".join(text for known in ALL for text in known.texts) + "\n"
GARBAGE = {
    "random bytes": lambda: os.urandom(SIZE).decode("utf-8", "replace"),
    "one line": lambda: "a" * SIZE,
    "empty lines": lambda: "\n" * SIZE,
    "headings": lambda: "Traceback (most recent call last):\n" * (SIZE // 35),
    "beginnings": lambda: "No module named '\n" * (SIZE // 17),
    "colours": lambda: "\x1b[" * (SIZE // 2),
    "everything": lambda: _EVERYTHING * (SIZE // len(_EVERYTHING)),
    "context never there": lambda: "buffer size must be a multiple of element size\n" * (SIZE // 47),
}


@pytest.mark.parametrize("name", GARBAGE)
def test_four_mebibytes_of_garbage_take_no_minutes(name):
    text = GARBAGE[name]()
    start = time.process_time()
    find(text, ALL)
    assert time.process_time() - start < 30


def test_time_is_linear():
    def seconds(size: int) -> float:
        start = time.process_time()
        find("KeyError: '… is not in the\n" * size, ALL)
        return time.process_time() - start

    assert seconds(80_000) < 12 * max(seconds(20_000), 0.01)


def test_a_known_text_needs_no_more_than_its_texts():
    known = Known("RX999", ("the … is out", "out"), "the {0} is out", "wait", "here", role=Role.NOTE)
    (match,) = find("today the sun is out again", [known])
    assert match.cause == "the sun is out"
