"""Replacing and removing statements of a Python file with libcst: everything else stays byte for byte."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from typing import cast

import libcst as cst
from libcst import matchers
from libcst.metadata import MetadataWrapper, PositionProvider

from racdino.doctor.mend.files import RefusedError
from racdino.doctor.mend.plan import RemoveStatement, ReplaceStatement

StatementEdit = ReplaceStatement | RemoveStatement
_Lines = Sequence[cst.EmptyLine]


class Source:
    """A Python file whose statements are found by the line on which they begin."""

    def __init__(self, content: bytes) -> None:
        """Raises RefusedError for what libcst cannot give back exactly, such as a syntax error."""
        try:
            self._module = cst.parse_module(content)
        except (cst.ParserSyntaxError, SyntaxError, UnicodeDecodeError, LookupError, RecursionError) as error:
            raise RefusedError(f"it cannot be parsed ({type(error).__name__})") from error
        if self._module.bytes != content:
            raise RefusedError("its line endings cannot be kept")
        positions = MetadataWrapper(self._module, unsafe_skip_copy=True).resolve(PositionProvider)
        self._starts: dict[int, list[cst.BaseSmallStatement]] = {}
        for node, span in positions.items():
            if isinstance(node, cst.BaseSmallStatement):
                self._starts.setdefault(span.start.line, []).append(node)
        self._edits: dict[cst.BaseSmallStatement, list[cst.SimpleStatementLine]] = {}

    def add(self, edit: StatementEdit) -> None:
        """Take an edit on, all by the lines of the file as it was read.

        Raises:
            RefusedError: no statement, several, or one with another edit begins on the line.
        """
        found = self._starts.get(edit.line, [])
        if len(found) != 1:
            raise RefusedError(f"{len(found)} simple statements begin on line {edit.line}, not one")
        if found[0] in self._edits:
            raise RefusedError(f"another edit changes line {edit.line} already")
        self._edits[found[0]] = self._parsed(edit.code) if isinstance(edit, ReplaceStatement) else []

    def edited(self) -> bytes:
        """The file after the edits.

        Raises:
            RefusedError: the result would not be valid Python, or not fit the file's encoding.
        """
        module = self._module.visit(_Editor(self._edits))
        try:
            content = module.bytes
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # about the user's own code
                compile(content, "edited", "exec", dont_inherit=True)  # sees a misplaced __future__ too; runs nothing
        except (UnicodeEncodeError, SyntaxError) as error:
            raise RefusedError(f"the edit would break the file ({error})") from error
        return content

    def _parsed(self, code: str) -> list[cst.SimpleStatementLine]:
        lines = cst.parse_module(code, config=self._module.config_for_parsing).body
        return [cst.ensure_type(line, cst.SimpleStatementLine) for line in lines]


class _Editor(cst.CSTTransformer):
    """Applies edits body by body, because a removed statement's comments go to its neighbour."""

    def __init__(self, edits: Mapping[cst.BaseSmallStatement, list[cst.SimpleStatementLine]]) -> None:
        super().__init__()
        self._edits = edits

    def leave_Module(self, original_node: cst.Module, updated_node: cst.Module) -> cst.Module:  # noqa: N802
        body, left = self._body(original_node.body, updated_node.body)
        if body or not updated_node.body:
            return updated_node.with_changes(body=body, footer=[*left, *updated_node.footer])
        return updated_node.with_changes(body=body, header=[*updated_node.header, *left])

    def leave_IndentedBlock(  # noqa: N802
        self, original_node: cst.IndentedBlock, updated_node: cst.IndentedBlock
    ) -> cst.IndentedBlock:
        body, left = self._body(original_node.body, updated_node.body)
        if not body:
            body, left = [cst.SimpleStatementLine([cst.Pass()], leading_lines=left)], []
        return updated_node.with_changes(body=body, footer=[*left, *updated_node.footer])

    def leave_SimpleStatementSuite(  # noqa: N802
        self, original_node: cst.SimpleStatementSuite, updated_node: cst.SimpleStatementSuite
    ) -> cst.SimpleStatementSuite:
        """``if x: import a``: what replaces it stays on the line."""
        body: list[cst.BaseSmallStatement] = []
        for before, after in zip(original_node.body, updated_node.body, strict=True):
            lines = self._edits.get(before)
            same = _same_names(after, lines) if lines else None
            if lines is None or same:
                body.append(same or after)
            elif _inner_comments(after):
                raise RefusedError("the comments between a statement's brackets have no other place on its line")
            else:
                body.extend(small for line in lines for small in line.body)
        return updated_node.with_changes(body=body or [cst.Pass()])

    def _body(
        self, before: Sequence[cst.BaseStatement], after: Sequence[cst.BaseStatement]
    ) -> tuple[list[cst.BaseStatement], _Lines]:
        """The new body, and the comment lines that no statement is left for."""
        body: list[cst.BaseStatement] = []
        held: list[cst.EmptyLine] = []
        for old, statement in zip(before, after, strict=True):
            comments = [*held, *getattr(statement, "leading_lines", ())]
            new = self._statements(old, statement, comments)
            held = [] if new else _only_comments(comments)
            body.extend(new)
        return body, held

    def _statements(
        self, old: cst.BaseStatement, statement: cst.BaseStatement, comments: list[cst.EmptyLine]
    ) -> list[cst.BaseStatement]:
        lines = self._edits.get(old.body[0]) if isinstance(old, cst.SimpleStatementLine) else None
        if lines is None:
            return [statement.with_changes(leading_lines=comments)]
        line = cst.ensure_type(statement, cst.SimpleStatementLine)
        if not lines:
            return []
        same = _same_names(line.body[0], lines)
        if same:
            return [line.with_changes(body=[same], leading_lines=comments)]
        comments += _inner_comments(line.body[0])
        first, *rest = lines
        new = [first.with_changes(leading_lines=comments), *rest]
        new[-1] = new[-1].with_changes(trailing_whitespace=line.trailing_whitespace)
        return cast("list[cst.BaseStatement]", new)


def _same_names(old: cst.BaseSmallStatement, lines: Sequence[cst.SimpleStatementLine]) -> cst.ImportFrom | None:
    """``from a import (x, y)`` that becomes ``from .b import x, y`` keeps its brackets, lines and comments."""
    new = lines[0].body[0]
    if len(lines) != 1 or not isinstance(old, cst.ImportFrom) or not isinstance(new, cst.ImportFrom):
        return None
    if _names(old) != _names(new):
        return None
    return old.with_changes(module=new.module, relative=new.relative)


def _names(statement: cst.ImportFrom) -> list[tuple[str, str | None]]:
    if isinstance(statement.names, cst.ImportStar):
        return [("*", None)]
    return [(alias.evaluated_name, alias.evaluated_alias) for alias in statement.names]


def _inner_comments(statement: cst.BaseSmallStatement) -> list[cst.EmptyLine]:
    """The comments between a statement's brackets, for the lines above what replaces it."""
    found = matchers.findall(statement, matchers.Comment())
    return [cst.EmptyLine(comment=cst.ensure_type(comment, cst.Comment)) for comment in found]


def _only_comments(lines: Sequence[cst.EmptyLine]) -> list[cst.EmptyLine]:
    """A removed statement's comments stay; the blank lines before it go with it."""
    return list(lines) if any(line.comment for line in lines) else []
