"""RD730 to RD732: what the training loop takes from a config."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping

from racdino.doctor.check import Group, Problem, check
from racdino.doctor.checkout.configs.subject import Found, at, configs_of, number, sections, shown, whole
from racdino.doctor.checkout.configs.text_config import TextConfig
from racdino.doctor.checkout.subject import Checkout
from racdino.doctor.finding import Severity


@check(
    "RD730",
    Group.CONFIGS,
    "the optimizer has a type and a learning rate",
    remedy="inherit optimizer through _base_, or write dict(type='AdamW', lr=4e-4, weight_decay=0.01)",
    of_checkout=True,
)
def optimizer_is_whole(checkout: Checkout) -> Iterator[Problem]:
    """A learning rate that is missing or a string (YAML reads `4e-4` as one) fails when the optimizer is built; one of
    zero or above 1 trains nothing. An optimizer that is replaced with `_delete_=True` easily loses its `paramwise_cfg`,
    which is not looked at here, for only a comparison with the baseline (RD710) can tell.
    """
    yield from configs_of(checkout).problems(_optimizer)


def _optimizer(config: TextConfig) -> Iterator[Found]:
    section = at(config.values, "optimizer")
    if not isinstance(section, Mapping) or config.open:
        return
    missing = [key for key in ("type", "lr") if key not in section]
    if missing:
        yield ("optimizer",), f"optimizer has no {' and no '.join(missing)}"
        return
    rate = at(section, "lr")
    if rate is not None and number(section, "lr") is None:
        yield ("optimizer", "lr"), f"optimizer.lr is {rate!r}, not a number"
    elif rate is not None and not 0 < rate <= 1:
        yield ("optimizer", "lr"), f"optimizer.lr is {rate!r}, which is not between 0 and 1"


@check(
    "RD731",
    Group.CONFIGS,
    "the loader's workers fit this machine",
    severity=Severity.OPTIONAL,
    remedy="set data.workers_per_gpu to about the cores per GPU",
    of_checkout=True,
)
def workers_fit(checkout: Checkout) -> Iterator[Problem]:
    """Each worker is a process for each GPU that decodes 48 images a sample and holds prefetched samples in shared
    memory. Many more of them than cores slow each other down and fill `/dev/shm`.

    Looked at: more than 16 workers, and more than twice the cores of this machine.
    """
    cores = os.cpu_count() or 1

    def find(config: TextConfig) -> Iterator[Found]:
        workers = whole(config.values, "data", "workers_per_gpu") or 0
        if workers > max(16, 2 * cores):
            yield ("data", "workers_per_gpu"), f"workers_per_gpu is {workers}, and this machine has {cores} cores"

    yield from configs_of(checkout).problems(find)


@check(
    "RD732",
    Group.CONFIGS,
    "norm layers work in one process",
    severity=Severity.OPTIONAL,
    remedy="use type='BN' (train.py turns it into SyncBN where there are several processes), or start with torchrun",
    of_checkout=True,
)
def norms_work_in_one_process(checkout: Checkout) -> Iterator[Problem]:
    """`SyncBN` in a config needs a process group: on one GPU without torchrun the first step stops with "Default
    process group has not been initialized", and on a CPU it is refused altogether.

    Looked at: every `norm_cfg` in `model`.
    """
    yield from configs_of(checkout).problems(_sync)


def _sync(config: TextConfig) -> Iterator[Found]:
    for keys, section in sections(at(config.values, "model"), ("model",)):
        if section.get("type") in ("SyncBN", "naiveSyncBN1d", "naiveSyncBN2d"):
            yield keys, f"{shown(keys)} is {section['type']}, which needs several processes"
            return
