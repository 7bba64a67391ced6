"""What the steps of a pipeline share about one sample, besides its data."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from racdino.data.history import Infos, Moment, past_moments


@dataclass
class Sample:
    """One key frame on its way through a pipeline.

    info: its own; infos: all, by token, for its past. locate: the path of a file that an info names.
    random: the generator of all its random draws. chosen: the past moments of its frames, once a step chose them.
    left_out: how many of what were left out as unusable.
    """

    info: dict[str, Any]
    infos: Infos
    locate: Callable[[str], str]
    random: np.random.Generator
    past: list[Moment] = field(init=False)
    chosen: list[Moment] | None = None
    left_out: Counter[str] = field(default_factory=Counter)

    def __post_init__(self) -> None:
        self.past = past_moments(self.info, self.infos)

    def __deepcopy__(self, memo: dict[int, Any]) -> Sample:
        return self  # MultiScaleFlipAug3D copies all it passes on, and behind this is the whole info file
