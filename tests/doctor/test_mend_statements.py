"""Edits change the statement and nothing else: comments, brackets, blank lines, line ends and encoding stay."""

from __future__ import annotations

import ast
import random
from textwrap import dedent

import pytest

from racdino.doctor.mend.files import RefusedError
from racdino.doctor.mend.plan import RemoveStatement, ReplaceStatement
from racdino.doctor.mend.statements import Source


def edited(content: str | bytes, *edits: tuple[int, str | None]) -> bytes:
    """The file after edits given as (line, code), code None to remove."""
    source = Source(content if isinstance(content, bytes) else dedent(content).encode())
    for line, code in edits:
        source.add(RemoveStatement("x.py", line) if code is None else ReplaceStatement("x.py", line, code))
    return source.edited()


def text(expected: str) -> bytes:
    return dedent(expected).encode()


RECORD_1 = "from .dino_v2_adapter import DinoAdapter\n\n__all__ = ['DinoAdapter']"


def test_record_1_the_wrong_import_becomes_two_statements():
    before = """\
        # the adapter
        from dino_v2_adapter import __all__  # names
        """
    after = """\
        # the adapter
        from .dino_v2_adapter import DinoAdapter

        __all__ = ['DinoAdapter']  # names
        """
    assert edited(before, (2, RECORD_1)) == text(after)


def test_record_2_an_import_of_the_same_names_keeps_its_brackets_and_comments():
    before = """\
        import torch
        from nets.dino_v2_with_adapter.dino_v2.layers import (
            MemEffAttention,   # needs xformers

            Mlp as   Mlp2,
        )  # noqa


        x = 1
        """
    code = "from ..layers import MemEffAttention, Mlp as Mlp2"
    expected = text(before).replace(b"nets.dino_v2_with_adapter.dino_v2.layers", b"..layers")
    assert edited(before, (2, code)) == expected


def test_comments_between_brackets_move_above_what_replaces_the_statement():
    before = """\
        def f():
            from a import (  # why
                b,  # what
            )
        """
    after = """\
        def f():
            # why
            # what
            import c
        """
    assert edited(before, (2, "import c")) == text(after)


def test_several_edits_go_by_the_lines_of_the_file_as_it_was():
    before = "import a\nimport b\nimport c\n"
    assert edited(before, (1, "import x\nimport y"), (2, None), (3, "import z")) == b"import x\nimport y\nimport z\n"


def test_a_removed_statement_leaves_the_comments_above_it():
    before = """\
        import a

        # about b
        import b  # gone with it

        import c
        """
    after = """\
        import a

        # about b

        import c
        """
    assert edited(before, (4, None)) == text(after)


@pytest.mark.parametrize(
    ("before", "line", "after"),
    [
        ("try:\n    # why\n    import a\nexcept ImportError:\n    a = None\n", 3, "try:\n    # why\n    pass\nexcept"),
        ("if x:\n\timport a\nb = 1\n", 2, "if x:\n\tpass\nb = 1\n"),
        ("if x: import a  # c\n", 1, "if x: pass  # c\n"),
        (
            "class A:\n    def f(self):\n        import a\n\n    x = 1\n",
            3,
            "class A:\n    def f(self):\n        pass\n",
        ),
    ],
    ids=["try", "tab", "one line", "nested"],
)
def test_the_only_statement_of_a_body_leaves_pass(before, line, after):
    assert edited(before, (line, None)).decode().startswith(after)


def test_the_last_statements_comments_stay_in_the_block_and_the_file():
    assert edited("if x:\n    a = 1\n    # why b\n    b = 2\n", (4, None)) == b"if x:\n    a = 1\n    # why b\n"
    assert edited("# header\nimport a\n", (2, None)) == b"# header\n"


def test_a_one_line_body_stays_on_its_line():
    assert edited("if x: import a  # c\n", (1, "import b\nimport c")) == b"if x: import b; import c  # c\n"


@pytest.mark.parametrize(
    "content",
    [
        b"\xef\xbb\xbfimport a\r\nimport b\r\n",
        "# -*- coding: gbk -*-\nimport a  # 适配器\nimport b".encode("gbk"),
        b"# -*- coding: latin-1 -*-\nimport a\nx = '\xe9'\n",
        b"import a\nx = 1\r\ny = 2\n",
        b"import a  \t\n\x0c\n\nif 1:\n\ty = (1,\n  2)\t\n\n\n",
        b"import a",
    ],
    ids=["BOM and CRLF", "GBK", "latin-1", "mixed line ends", "odd spaces", "no last line end"],
)
def test_every_other_byte_stays(content):
    line = content[: content.index(b"import a")].count(b"\n") + 1
    assert edited(content, (line, "import z")) == content.replace(b"import a", b"import z")


def test_line_ends_of_new_lines_are_the_files():
    assert edited(b"import a\r\nb = 1\r\n", (1, "import x\nimport y")) == b"import x\r\nimport y\r\nb = 1\r\n"


@pytest.mark.parametrize(
    ("content", "line", "code", "reason"),
    [
        ("import a; import b\n", 1, "import c", "2 simple statements begin on line 1"),
        ("import a\n", 2, "import c", "0 simple statements"),
        ("x = (1,\n  2)\n", 2, None, "0 simple statements"),
        ("def f():\n    pass\n", 1, None, "0 simple statements"),
        ("if x: from a import (b,  # c\n  d)\n", 1, "import e", "no other place"),
        ("from __future__ import annotations\n", 1, "import a\nfrom __future__ import annotations", "break the file"),
    ],
)
def test_what_cannot_be_edited_for_certain_is_refused(content, line, code, reason):
    with pytest.raises(RefusedError, match=reason):
        edited(content, (line, code))


def test_code_that_does_not_fit_the_encoding_is_refused():
    with pytest.raises(RefusedError, match="break the file"):
        edited(b"# coding: ascii\nimport a\n", (2, "x = '\u9002'"))


@pytest.mark.parametrize("content", [b"import (\n", b"x = '\xff'\n", b"a\rb\r", b"# coding: nonsense\n"])
def test_a_file_that_libcst_does_not_give_back_exactly_is_refused(content):
    with pytest.raises(RefusedError):
        Source(content)


def test_two_edits_of_one_line_are_refused():
    source = Source(b"import a\n")
    source.add(RemoveStatement("x.py", 1))
    with pytest.raises(RefusedError, match="another edit"):
        source.add(ReplaceStatement("x.py", 1, "import b"))


@pytest.mark.parametrize("seed", range(30))
def test_removing_any_statements_agrees_with_ast(seed):
    """The independent reference: ast without the same statements, an emptied body being ``pass``."""
    source = _some_module(random.Random(seed))
    tree = ast.parse(source)
    simple = [node for node in ast.walk(tree) if isinstance(node, ast.Assign)]
    removed = random.Random(seed).sample(simple, len(simple) // 2)
    content = edited(source, *((node.lineno, None) for node in removed))
    expected = _Without({id(node) for node in removed}).visit(tree)
    assert ast.dump(ast.parse(content)) == ast.dump(expected)
    comments = [line.strip() for line in source.splitlines() if line.strip().startswith("#")]
    assert sorted(c.strip() for c in content.decode().splitlines() if c.strip().startswith("#")) == sorted(comments)


class _Without(ast.NodeTransformer):
    def __init__(self, removed: set[int]) -> None:
        self.removed = removed

    def visit_Assign(self, node: ast.Assign) -> ast.Assign | None:
        return None if id(node) in self.removed else node

    def generic_visit(self, node: ast.AST) -> ast.AST:
        super().generic_visit(node)
        if not isinstance(node, ast.Module) and getattr(node, "body", None) == []:
            node.body = [ast.Pass()]
        return node


def _some_module(choose: random.Random, indent: str = "", depth: int = 0) -> str:
    lines = []
    for number in range(choose.randint(1, 4)):
        lines += choose.choice([[], [f"{indent}# c{choose.random()}"], [""]])
        if depth < 3 and choose.random() < 0.4:
            head = choose.choice(["if x:", "def f():", "class A:", "with x:", "while x:", "for i in x:"])
            lines += [indent + head, _some_module(choose, indent + "    ", depth + 1).rstrip("\n")]
        else:
            lines.append(f"{indent}a{number} = {choose.choice(['1', '(1,', '[2,'])}")
            if lines[-1].endswith(","):
                lines.append(f"{'  ' * choose.randint(0, 3)}3{')' if '(' in lines[-1] else ']'}")
    return "\n".join(lines) + "\n"
