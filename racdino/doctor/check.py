"""How a check is written down: its code, its page and its function are one object. Standard library only, Python 3.8.

For example:

    @check("RD101", Group.PLATFORM, "Python is 3.10", remedy="make setup brings Python 3.10")
    def python_version(environment: Environment) -> Iterator[Problem]:
        \"""Why it matters and how it is seen: the text of docs/doctor/RD101.md.\"""
        if environment.python != (3, 10):
            yield Problem(f"this is Python {environment.python_text}")
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from enum import Enum
from typing import Any

from racdino.doctor.finding import Finding, Severity
from racdino.doctor.mend.plan import Mend


class Group(Enum):
    """What a check looks at; ``--only`` and ``--skip`` take these names or codes. The digits begin its codes."""

    PLATFORM = ("platform", "RD1", "platform and driver")
    GPU = ("gpu", "RD2", "GPU and the code compiled for it")
    PACKAGES = ("packages", "RD3", "Python packages against the lock")
    EXTENSIONS = ("extensions", "RD4", "compiled extensions")
    ATTENTION = ("attention", "RD5", "attention back ends")
    IMPORTS = ("imports", "RD6", "the checkout's imports")
    CONFIGS = ("configs", "RD7", "configs")
    DATA = ("data", "RD8", "weights and data set")
    LIMITS = ("limits", "RD90", "run-time limits")
    NETWORK = ("network", "RD95", "network and proxies")

    def __init__(self, key: str, prefix: str, text: str) -> None:
        self.key, self.prefix, self.text = key, prefix, text


@dataclass(frozen=True)
class Problem:
    """One thing that is not as the check's title says. What is left empty comes from the check."""

    cause: str
    remedy: str = ""
    place: str = ""
    severity: Severity | None = None
    mend: Mend | None = None


@dataclass(frozen=True)
class Check:
    """One entry of the registry.

    Attributes:
        title: the healthy state, one sentence without a full stop; printed when nothing is found.
        remedy: what usually mends it, with the exact command.
        page: why it matters and how it is seen, in Markdown: the function's docstring.
        mends: whether ``--fix`` can mend at least one of its problems.
        of_checkout: whether it looks at a checkout; else at the environment.
        live: whether it executes code of the checkout, and so runs only with ``--run-imports``.
    """

    code: str
    group: Group
    title: str
    severity: Severity
    remedy: str
    page: str
    mends: bool
    of_checkout: bool
    live: bool
    run: Callable[[Any], Iterable[Problem]]

    def findings(self, subject: Any) -> Iterator[Finding]:
        """All problems as findings; one OK where there is none."""
        healthy = True
        for problem in self.run(subject):
            healthy = False
            yield Finding(
                self.code,
                problem.severity or self.severity,
                problem.cause,
                problem.remedy or self.remedy,
                problem.place,
                problem.mend,
            )
        if healthy:
            yield Finding(self.code, Severity.OK, self.title)


CHECKS: dict[str, Check] = {}


def check(
    code: str,
    group: Group,
    title: str,
    *,
    remedy: str,
    severity: Severity = Severity.ERROR,
    mends: bool = False,
    of_checkout: bool = False,
    live: bool = False,
) -> Callable[[Callable[[Any], Iterable[Problem]]], Callable[[Any], Iterable[Problem]]]:
    """Register the function below as a check; its docstring is the check's page."""

    def register(function: Callable[[Any], Iterable[Problem]]) -> Callable[[Any], Iterable[Problem]]:
        if code in CHECKS or not code.startswith(group.prefix):
            raise ValueError(f"{code} is taken, or is none of {group.name}'s codes, which begin with {group.prefix}")
        page = inspect.cleandoc(function.__doc__ or "")
        CHECKS[code] = Check(code, group, title, severity, remedy, page, mends, of_checkout, live, function)
        return function

    return register
