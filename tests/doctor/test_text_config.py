"""A config read as text is what mmcv gives by running it; what only running could tell is Unknown, and nothing runs."""

from __future__ import annotations

import contextlib
import sys
import time
from pathlib import Path

import pytest

from racdino.doctor.checkout.configs.text_config import ConfigReader, ConfigTextError, line_of
from racdino.doctor.unknown import Unknown

ROOT = Path(__file__).resolve().parents[2]
LOADED = """
a = [1, 2.5, 'x', (3, None, True)]
b = dict(c=a, **dict(d=-1), e={'f': 1e-3, 'g-h': [*a, 4]})
c = a[0] + len(a) * 2 - 7 // 2 + 2 ** 5
d = 'data/' + 'nuscenes/' + f'v{c}-{1.5:.2f}' + '%s_%d' % ('x', 3) + '{}_{k}'.format(1, k=2)
e = a[1:] + list((1, 2)) + [0] * 3
f, (g, h) = 1, [2, 3]
i: int = 5
i += 1
_hidden = 1
__dunder = 2
j = 1 if c > 2 and not i < 3 else undefined_elsewhere
k = max(3, c) or None
l = sum([1, 2]) + round(2.6) + abs(-1) + int('4') + min(range(3, 9))
"""
REFERENCES = """
a = [1]
b = dict(x=a)
a += [2]
a.append(3)
b['y'] = a
b.update(z=1)
c = b.pop('z')
a[0] = 7
e = dict(b)
e['y'] = None
f = b.get('nothing', 5)
del b['y'], c
del a
"""
BASE = {
    "base.py": "x = 1\nm = dict(a=dict(p=1, q=[1]), b=dict(r=2), l=[dict(t=1)])\nn = dict(k=(1, dict(z=2)))",
    "other.py": "y = 2",
}


def written(folder: Path, files: dict[str, str]) -> Path:
    """The last of ``files``, all of them written into ``folder``."""
    for name, text in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    return path


def agrees(mine, theirs) -> bool:
    """Equal but for what is Unknown, in keys, their order, values and types."""
    if isinstance(mine, Unknown):
        return True
    if isinstance(mine, dict):
        return list(mine) == list(theirs) and all(agrees(mine[key], theirs[key]) for key in mine)
    if isinstance(mine, (list, tuple)):
        return type(mine) is type(theirs) and len(mine) == len(theirs) and all(map(agrees, mine, theirs))
    return type(mine) is type(theirs) and mine == theirs


def by_mmcv(path: Path):
    """What mmcv loads, or its exception."""
    from mmcv import Config

    before = list(sys.path)
    try:
        return Config.fromfile(str(path), import_custom_modules=False)._cfg_dict.to_dict()
    except Exception as error:  # a config is a program: it raises what it likes
        return error
    finally:
        sys.path[:] = before  # mmcv leaves its temporary folder there when a config fails


@pytest.mark.parametrize(
    "files",
    [
        {"a.py": LOADED},
        {"a.py": REFERENCES},
        BASE | {"a.py": "_base_ = 'base.py'\nm = dict(a=dict(q=[2, 3], s=None))\nx = None"},
        BASE | {"a.py": "_base_ = ['./base.py', 'other.py']\nm = dict(b=dict(_delete_=True, w=1), l=[])\nx = None"},
        BASE | {"a.py": "_base_ = 'base.py'\nnew = dict(_delete_=True, a=1)\nm = dict(a=dict(p=dict(_delete_=True)))"},
        BASE | {"a.py": "_base_ = 'base.py'\nv = [{{_base_.m.a}}, ({{ _base_.x }}, 2)]\nw = {{_base_.n.k}}"},
        BASE | {"a.py": "_base_ = 'base.py'\nv = dict(w={{_base_.m.a}}, **dict(u=1))"},
        BASE | {"sub/a.py": "_base_ = ['../base.py']\nd = '{{ fileDirname }}/{{fileBasename}}'\nx = 3"},
        {"a.py": "n = '{{ fileBasenameNoExtension }}{{ fileExtname }}'\n_deprecation_ = dict(expected='b')"},
        {"base.json": '{"a": {"b": [1, null]}}', "a.py": "_base_ = 'base.json'\na = dict(c=2)"},
        BASE
        | {"mid.py": "_base_ = 'base.py'\nm = dict(a=dict(p=2))", "a.py": "_base_ = 'mid.py'\nm = dict(a=dict(q=1))"},
        {"a.py": "s = dict(x=1, _delete_=True)\nm = dict(a=s, b=s)"},
        {"a.py": "import os\nx = os.sep\ny = [i for i in range(3)]\nz = 1\ndef f():\n    inner = 1\n"},
        {"a.py": "a = [1]\nb = dict(k=a)\nfor i in range(3):\n    a.append(i)\nif a:\n    c = 1\nd = 4"},
        {"a.py": "import copy\na = dict(x=[1])\nb = copy.deepcopy(a)\nb['x'].append(2)\nc = 3"},
        {"a.py": "a = [1]\nn = 1\ndef f():\n    global n\n    n = 2\n    a.append(5)\nf()\nb = 1"},
        {"a.py": "a = dict(k=[1])\nb = list(map(str, a['k']))\na['k'][0] += 1\n"},
    ],
    ids=lambda files: list(files.values())[-1][:40].replace("\n", ";"),
)
def test_equals_what_mmcv_loads(tmp_path, files):
    path = written(tmp_path, files)
    expected = by_mmcv(path)
    config = ConfigReader().read(path)
    mine = {key: value for key, value in config.values.items() if key != "i" or not isinstance(value, Unknown)}
    theirs = {key: value for key, value in expected.items() if key in mine} if config.notes else expected
    assert agrees(mine, theirs), (mine, theirs)


@pytest.mark.parametrize(
    ("files", "kind"),
    [
        ({"a.py": "x = (1\ny = 2"}, "syntax"),
        ({"a.py": "<<<<<<< HEAD\nx = 1"}, "syntax"),
        ({"a.py": "\ufeffx = 1"}, "syntax"),
        ({"a.py": "x = undefined + 1"}, "run"),
        ({"a.py": "x = 1\ndel x\ny = x"}, "run"),
        ({"a.py": "m = dict(a=1)\ny = m['b']"}, "run"),
        ({"a.py": "x = [1] + (2,)"}, "run"),
        ({"a.py": "_base_ = 'nowhere.py'"}, "base"),
        ({"base.py": "_base_ = 'a.py'", "a.py": "_base_ = 'base.py'"}, "base"),
        ({"a.py": "_base_ = 'a.py'"}, "base"),
        ({"base.py": "x = 1", "other.py": "x = 1", "a.py": "_base_ = ['base.py', 'other.py']"}, "merge"),
        ({"base.py": "x = 1", "a.py": "_base_ = 'base.py'\nx = dict(y=1)"}, "merge"),
        ({"base.py": "x = 1", "a.py": "_base_ = 'base.py'\nz = {{_base_.y}}"}, "merge"),
        ({"a.py": "filename = 1"}, "merge"),
    ],
)
def test_refuses_what_mmcv_refuses(tmp_path, files, kind):
    path = written(tmp_path, files)
    assert isinstance(by_mmcv(path), Exception)
    with pytest.raises(ConfigTextError) as caught:
        ConfigReader().read(path)
    assert caught.value.kind == kind


INSTALLED = [ROOT / "configs"]
for package in ("mmdet", "mmdet3d"):
    try:
        found = __import__(package)
    except ImportError:
        continue
    INSTALLED.append(Path(found.__file__).parent / ".mim" / "configs")


@pytest.mark.parametrize("folder", INSTALLED, ids=lambda folder: folder.parts[-3])
def test_every_published_config_is_read_as_mmcv_reads_it(folder):
    paths = sorted(folder.rglob("*.py"))
    if not paths:
        pytest.skip(f"no configs in {folder}: mmdet and mmdet3d were installed without theirs")
    reader, different, unknown = ConfigReader(), [], 0
    for path in paths:
        config = reader.read(path)
        unknown += _has_unknown(config.values)
        if not agrees(config.values, by_mmcv(path)):
            different.append(path.name)
    assert different == []
    assert unknown <= len(paths) / 10  # or the comparison says little


def _has_unknown(value) -> bool:
    items = value.values() if isinstance(value, dict) else value if isinstance(value, (list, tuple)) else ()
    return isinstance(value, Unknown) or any(map(_has_unknown, items))


@pytest.mark.parametrize(
    "text",
    [
        "x = 10 ** 10 ** 10",
        "x = 'a' * 10 ** 12",
        "x = [0] * 10 ** 10",
        "x = '%1000000000d' % 1",
        "x = '{:>1000000000}'.format(1)",
        "x = f'{1:>1000000000}'",
        "x = 1 << 10 ** 12",
        "x = list(range(10 ** 12))",
        "x = [0]\n" + "x += x\n" * 60,
        "x = [0]\n" + "x = [x, x]\n" * 60,
        "x = []\nx.append(x)",
        "x = {}\nx['x'] = x",
        "x = [0]\n" + "x.extend(x)\n" * 60,
        "x = [0] * 99999\n" + "y = x * 1\n" * 20000,
        "x = [0] * 99999\n" + "".join(f"y{i} = list(x)\n" for i in range(10000)),
        "x = [0]\n" + "x = [x, x]\n" * 15 + "".join(f"y{i} = x\n" for i in range(10000)),
        "x = " + "[" * 90 + "]" * 90,
        "x = " + "-" * 5000 + "1",
        "x = " + "1+" * 80000 + "1",
        "x = a" + ".b" * 80000,
        "x = '" + "a" * 10**6 + "'",
        "\0",
        "while True: pass",
        "x = 9 ** 9 ** 9 % 7",
    ],
    ids=lambda text: text[:25].replace("\n", ";") + f"_{len(text)}",
)
def test_no_config_makes_reading_slow_or_crashes_it(tmp_path, text):
    path = written(tmp_path, {"a.py": text})
    start = time.process_time()
    with contextlib.suppress(ConfigTextError):
        ConfigReader().read(path)
    assert time.process_time() - start < 30  # unbounded, it would be hours


def test_bases_that_double_are_bounded(tmp_path):
    files = {"c0.py": "x = [1, 2]"}
    files |= {f"c{i}.py": f"_base_ = 'c{i - 1}.py'\nx = [{{{{_base_.x}}}}, {{{{_base_.x}}}}]" for i in range(1, 40)}
    with pytest.raises(ConfigTextError, match="large"):
        ConfigReader().read(written(tmp_path, files))


def test_nothing_is_executed(tmp_path):
    flag = tmp_path / "ran"
    code = f"open({str(flag)!r}, 'w').close()"
    text = f"import os\n{code}\nx = {code}\nos.system('touch {flag}')\nexec({code!r})\nclass A:\n    {code}\n"
    config = ConfigReader().read(written(tmp_path, {"a.py": text + "y = 1"}))
    assert not flag.exists()
    assert [line for line, _ in config.notes][:2] == [1, 2]
    assert config.open


def test_what_is_no_regular_file_is_refused(tmp_path):
    with pytest.raises(ConfigTextError, match="no file"):
        ConfigReader().read(Path("/dev/zero"))
    with pytest.raises(ConfigTextError, match="no file"):
        ConfigReader().read(tmp_path)


@pytest.mark.parametrize(
    ("keys", "line"),
    [(("m",), 2), (("m", "b"), 3), (("m", "b", "c"), 3), (("m", "d", "e"), 1), (("m", "f"), 4), (("z",), 0)],
)
def test_the_line_of_a_key(tmp_path, keys, line):
    text = "d = {'e': 1}\nm = dict(\n    b=dict(c=1),\n    d=d, f=2)\n"
    assert line_of(ConfigReader().read(written(tmp_path, {"a.py": text})), *keys) == line
