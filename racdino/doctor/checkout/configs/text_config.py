"""Reads mmcv 1.x configs as text: what ``mmcv.Config.fromfile`` gives, without running them.

``_base_`` files are read and merged as mmcv does; ``{{ _base_.key }}`` and ``{{ fileDirname }}`` are filled in. What
only running the config could tell is an `Unknown`. Standard library only, Python 3.8; nothing is imported or executed.
"""

from __future__ import annotations

import ast
import json
import os
import re
import stat
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from racdino.doctor.checkout.configs.module import Module
from racdino.doctor.checkout.configs.values import LARGEST_TREE, NotEvaluatedError, tree_copy
from racdino.doctor.checkout.parsing import parse
from racdino.doctor.unknown import Unknown

LARGEST_FILE = 256 * 1024  # bytes; the largest of mmdetection's 666 configs has 60 KiB
MOST_BASES = 100
_RESERVED = ("filename", "text", "pretty_text")


class ConfigTextError(Exception):
    """A config that mmcv could not load either.

    Attributes:
        kind: ``missing``, ``syntax``, ``base`` (a ``_base_`` that is missing or a cycle), ``merge``, ``run``
            or ``limit`` (of this reader alone).
        path, line: where; line 0 for a whole file.
    """

    def __init__(self, kind: str, path: Path, line: int, message: str) -> None:
        super().__init__(message)
        self.kind, self.path, self.line = kind, path, line


@dataclass
class TextConfig:
    """One config as far as it can be read.

    Attributes:
        values: its keys, those of its bases merged in.
        own: the keys that its own file sets, before merging.
        bases: the files that ``_base_`` names, in order.
        notes: (line, what) of code in its own file that was not run.
        open: whether code could have added keys that ``values`` lacks.
    """

    path: Path
    values: dict[str, Any] = field(default_factory=dict)
    own: dict[str, Any] = field(default_factory=dict)
    bases: list[TextConfig] = field(default_factory=list)
    notes: list[tuple[int, str]] = field(default_factory=list)
    open: bool = False
    tree: ast.Module = field(default_factory=lambda: ast.Module(body=[], type_ignores=[]))


class ConfigReader:
    """Reads each file once."""

    def __init__(self) -> None:
        self._read: dict[Path, TextConfig | ConfigTextError] = {}
        self._reading: list[Path] = []

    def read(self, path: Path) -> TextConfig:
        """The config at ``path``.

        Raises:
            ConfigTextError: mmcv could not load it either, or it is too large to read.
        """
        path = Path(os.path.abspath(path))  # noqa: PTH100 - as mmcv does it: links are not resolved
        if path in self._reading:
            chain = [*self._reading[self._reading.index(path) :], path]
            message = f"_base_ leads back to itself: {' -> '.join(step.name for step in chain)}"
            raise ConfigTextError("base", self._reading[-1], 0, message)
        if path not in self._read:
            self._reading.append(path)
            try:
                self._read[path] = self._fresh(path)
            except ConfigTextError as error:
                self._read[path] = error
            finally:
                self._reading.pop()
        found = self._read[path]
        if isinstance(found, ConfigTextError):
            raise found
        return found

    def _fresh(self, path: Path) -> TextConfig:
        text = config_text(path)
        if path.suffix == ".json":
            return _json(path, text)
        if path.suffix != ".py":
            return TextConfig(path, notes=[(1, f"{path.suffix}, which is not read here")], open=True)
        text, markers = _filled(path, text)
        tree = _parse(path, text)
        try:
            module = Module(tree)
            found = module.values()
        except RecursionError:
            raise ConfigTextError("limit", path, 0, "its expressions are nested too deeply to read") from None
        if module.failures:
            line, message = module.failures[0]
            raise ConfigTextError("run", path, line, message)
        config = TextConfig(path, own=found, notes=module.notes, open=module.open, tree=tree)
        found = dict(found)
        found.pop("_deprecation_", None)
        config.values = self._with_bases(config, found, markers) if "_base_" in found else found
        _check_reserved(config)
        return config

    def _with_bases(self, config: TextConfig, found: dict[str, Any], markers: Mapping[str, str]) -> dict[str, Any]:
        named = found.pop("_base_")
        names = named if isinstance(named, list) else [named]
        line = line_of(config, "_base_")
        if len(self._reading) > MOST_BASES or len(names) > MOST_BASES:
            raise ConfigTextError("limit", config.path, line, f"it has more than {MOST_BASES} bases")
        base: dict[str, Any] = {}
        for name in names:
            if isinstance(name, Unknown):
                config.open = True
                continue
            if not isinstance(name, str):
                raise ConfigTextError("base", config.path, line, f"_base_ names {name!r}, which is no file name")
            one = self._base(config.path, line, name)
            config.bases.append(one)
            config.open = config.open or one.open
            twice = sorted(map(str, base.keys() & one.values.keys()))
            if twice:
                raise ConfigTextError("merge", config.path, line, f"two of its _base_ files set {', '.join(twice)}")
            base.update(one.values)
        try:
            found = tree_copy(_substituted(found, markers, base), [LARGEST_TREE])
            return _merged(found, base)
        except NotEvaluatedError as error:
            raise ConfigTextError("limit", config.path, 0, str(error)) from None
        except (KeyError, TypeError) as error:
            raise ConfigTextError("merge", config.path, line, str(error.args[0])) from None

    def _base(self, path: Path, line: int, name: str) -> TextConfig:
        base = path.parent / name
        try:
            return self.read(base)
        except ConfigTextError as error:
            if error.kind == "missing":
                raise ConfigTextError("base", path, line, f"_base_ names {name}: {error}") from None
            raise


def config_text(path: Path) -> str:
    """The text of a regular file of a bounded size; a ConfigTextError says why not."""
    try:
        status = path.stat()
        if not stat.S_ISREG(status.st_mode):
            raise ConfigTextError("missing", path, 0, "it is no file")
        if status.st_size > LARGEST_FILE:
            raise ConfigTextError("limit", path, 0, f"it has {status.st_size} bytes and is not read")
        return path.read_bytes().decode("utf-8").replace("\r\n", "\n").replace("\r", "\n")
    except (OSError, ValueError) as error:
        if isinstance(error, UnicodeDecodeError):
            raise ConfigTextError("syntax", path, 0, "it is not UTF-8, which mmcv reads it as") from None
        reason = "there is no such file" if isinstance(error, FileNotFoundError) else str(error)
        raise ConfigTextError("missing", path, 0, reason) from None


def _parse(path: Path, text: str) -> ast.Module:
    try:
        return parse(text)
    except SyntaxError as error:
        raise ConfigTextError("syntax", path, error.lineno or 0, f"{error.msg}") from None
    except (ValueError, RecursionError, MemoryError) as error:
        raise ConfigTextError("syntax", path, 0, str(error) or "it is nested too deeply to parse") from None


def _json(path: Path, text: str) -> TextConfig:
    try:
        found = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ConfigTextError("syntax", path, getattr(error, "lineno", 0), str(error)) from None
    if not isinstance(found, dict):
        raise ConfigTextError("merge", path, 1, "it is no JSON object")
    return TextConfig(path, values=found, own=found)


def _filled(path: Path, text: str) -> tuple[str, dict[str, str]]:
    """``text`` with mmcv's templates filled in, and the marker strings that stand for keys of the bases."""
    stem, suffix = os.path.splitext(path.name)  # noqa: PTH122 - as mmcv does it
    known = {
        "fileDirname": str(path.parent),
        "fileBasename": path.name,
        "fileBasenameNoExtension": stem,
        "fileExtname": suffix,
    }
    for name, value in known.items():
        text = re.sub(r"\{\{\s*" + name + r"\s*\}\}", lambda _, value=value: value, text)  # type: ignore[misc]
    markers: dict[str, str] = {}

    def mark(match: re.Match[str]) -> str:
        marker = f"_{match.group(1)}_racdino_marker"
        markers[marker] = match.group(1)
        return f'"{marker}"'

    return re.sub(r"\{\{\s*_base_\.([\w.]+)\s*\}\}", mark, text), markers


def _substituted(value: Any, markers: Mapping[str, str], base: Any) -> Any:
    if isinstance(value, dict):
        return {key: _substituted(item, markers, base) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return type(value)(_substituted(item, markers, base) for item in value)
    if isinstance(value, str) and value in markers:
        for key in markers[value].split("."):
            if isinstance(base, Unknown):
                return base
            if not isinstance(base, dict) or key not in base:
                raise KeyError(f"{{{{ _base_.{markers[value]} }}}} names a key that no _base_ file has")
            base = base[key]
    else:
        return value
    return base


def _merged(child: Mapping[str, Any], base: Mapping[str, Any]) -> dict[str, Any]:
    """mmcv's rule: dicts are merged key by key unless the child's has ``_delete_``; all else is replaced."""
    result = dict(base)
    for key, value in child.items():
        if not isinstance(value, dict) or key not in result:
            result[key] = value
            continue
        rest = {name: item for name, item in value.items() if name != "_delete_"}
        below = result[key]
        if value.get("_delete_", False):
            result[key] = rest
        elif isinstance(below, Unknown):
            result[key] = below
        elif isinstance(below, dict):
            result[key] = _merged(rest, below)
        else:
            raise TypeError(
                f"{key} is a dict here and {type(below).__name__} in _base_; _delete_=True would replace it"
            )
    return result


def _check_reserved(config: TextConfig) -> None:
    for key in _RESERVED:
        if key in config.values:
            raise ConfigTextError("merge", config.path, line_of(config, key), f"the key {key} is reserved by mmcv")


def line_of(config: TextConfig, *keys: str) -> int:
    """The line on which its own file sets ``keys``, as deep as that can be followed; 0 where the file does not."""
    line = 0
    node: ast.AST | None = None
    for depth, key in enumerate(keys):
        if isinstance(node, ast.Name):
            found = _assigned(config.tree, node.id)
            node = found if found is not None else node
        step = _assigned(config.tree, key) if depth == 0 else _item(node, key)
        if step is None:
            break
        node, line = step, getattr(step, "lineno", line)
    return line


def _assigned(tree: ast.Module, name: str) -> ast.AST | None:
    value = None
    for node in tree.body:
        targets: Iterable[ast.expr] = node.targets if isinstance(node, ast.Assign) else ()
        if isinstance(node, ast.AnnAssign):
            targets = [node.target]
        if any(isinstance(target, ast.Name) and target.id == name for target in targets):
            value = getattr(node, "value", None)
    return value


def _item(node: ast.AST | None, key: str) -> ast.AST | None:
    if isinstance(node, ast.Call):
        return next((keyword.value for keyword in node.keywords if keyword.arg == key), None)
    if isinstance(node, ast.Dict):
        pairs = zip(node.keys, node.values)  # noqa: B905 - Python 3.8
        return next((value for name, value in pairs if isinstance(name, ast.Constant) and name.value == key), None)
    return None
