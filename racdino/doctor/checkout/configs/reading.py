"""RD701 to RD703: every config can be read, and says what it says without running."""

from __future__ import annotations

from collections.abc import Iterator

from racdino.doctor.check import Group, Problem, check
from racdino.doctor.checkout.configs.subject import MOST_CONFIGS, Configs, configs_of
from racdino.doctor.checkout.subject import Checkout
from racdino.doctor.finding import Severity


@check(
    "RD701",
    Group.CONFIGS,
    "every config is a program that mmcv can run",
    remedy="correct that line; `racdino doctor --only RD701 PATH` looks again",
    of_checkout=True,
)
def configs_parse(checkout: Checkout) -> Iterator[Problem]:
    """mmcv runs a config as a Python program, so a missing bracket, a merge marker or a name that is not defined stops
    training at its first line, after the packages have taken half a minute to import.

    Read here as text: Python's parser, then the config's assignments one by one. Names that only code could define are
    not complained about. mmcv reads configs as UTF-8 and without a byte-order mark.
    """
    yield from _failures(configs_of(checkout), ("missing", "syntax", "run"))


@check(
    "RD702",
    Group.CONFIGS,
    "every _base_ is there and can be merged",
    remedy="correct _base_: its paths are relative to the config that has them",
    of_checkout=True,
)
def bases_merge(checkout: Checkout) -> Iterator[Problem]:
    """`_base_` names the configs that a config changes. mmcv fails where one is missing (a config was copied without
    it), where two of them set the same key, where a dict replaces a number or list (`_delete_=True` is what is meant),
    and it recurses without end where configs name each other.
    """
    yield from _failures(configs_of(checkout), ("base", "merge"))


@check(
    "RD703",
    Group.CONFIGS,
    "configs are plain data",
    severity=Severity.OPTIONAL,
    remedy="nothing has to be done; `racdino doctor --run-imports PATH` loads configs by running them",
    of_checkout=True,
)
def configs_are_data(checkout: Checkout) -> Iterator[Problem]:
    """The doctor reads configs without running them. What stands behind an import, a loop, a function or a
    comprehension is therefore not known to it, and its other checks leave out whatever depends on that.

    One line for each config that has such code. It is not wrong: mmcv runs it.
    """
    configs = configs_of(checkout)
    for name, config in configs.loaded.items():
        if config.notes:
            line, what = config.notes[0]
            more = f" and {len(config.notes) - 1} more" if len(config.notes) > 1 else ""
            yield Problem(f"line {line} runs code ({what}{more}), which was not executed", place=f"{name}:{line}")
    yield from _failures(configs, ("limit",))
    if configs.left_out:
        yield Problem(f"only the first {MOST_CONFIGS} configs were read, {configs.left_out} were not", place="configs")


def _failures(configs: Configs, kinds: tuple[str, ...]) -> Iterator[Problem]:
    """Once for the file that is wrong, however many configs have it as their base."""
    seen = set()
    for error in configs.failed.values():
        where = (error.path, error.line, str(error))
        if error.kind in kinds and where not in seen:
            seen.add(where)
            name = configs.name(error.path)
            yield Problem(f"mmcv cannot load it: {error}", place=f"{name}:{error.line}" if error.line else name)
