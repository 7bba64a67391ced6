"""Do the values of a ``dinov2_adapter`` section fit together? Arithmetic only: nothing is built."""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Mapping
from typing import Any


def problems(section: Mapping[str, Any]) -> Iterator[str]:
    """One phrase for each way in which ``DinoAdapter(**section)`` would be wrong; nothing when it is right."""
    from racdino.backbones import DinoAdapter

    parameters = inspect.signature(DinoAdapter.__init__).parameters
    unknown = [key for key in section if key not in parameters and key != "type"]
    if unknown:
        yield f"DinoAdapter has no parameter {', '.join(unknown)}"
    values = {name: p.default for name, p in parameters.items() if p.default is not inspect.Parameter.empty}
    values.update(section)
    yield from _width_problems(values["embed_dim"], values["num_heads"], values["deform_num_heads"])
    yield from _index_problems(values["interaction_indexes"], values["depth"])
    if values["patch_size"] != 14:
        yield f"patch_size is {values['patch_size']}, DINOv2 is trained with 14"
    elif values["pretrain_size"] % 14:
        yield f"pretrain_size {values['pretrain_size']} is not a multiple of the patch size 14"


def _width_problems(embed_dim: int, num_heads: int, deform_num_heads: int) -> Iterator[str]:
    for name, heads in (("num_heads", num_heads), ("deform_num_heads", deform_num_heads)):
        if embed_dim % heads:
            yield f"embed_dim {embed_dim} is not divisible by {name} {heads}"


def _index_problems(indexes: Any, depth: int) -> Iterator[str]:
    """The blocks must be cut into four runs that follow one another from 0 to depth - 1."""
    expected, readable = 0, True
    for pair in indexes:
        first, last = pair
        readable = readable and first == expected and last >= first
        expected = last + 1
    if len(indexes) != 4 or not readable or expected != depth:
        yield f"interaction_indexes {indexes} do not cut the blocks 0 to {depth - 1} into four runs"
