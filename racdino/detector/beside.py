"""Work that waits for the GPU, beside what the GPU has been given already.

Where the size of a result depends on data (how many radar pillars, how many depth hypotheses inside the grid) the host
has to wait for it. On the stream of the images it would wait for the backbones too; on its own only for that work.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache

import torch


class Beside:
    """A stream that starts from what is queued when this is made: make it before the images are queued.

    Use `queue` once, without gradients. Memory that it allocates is free for its next use, in the next step, which
    starts after all of this one: so tensors made there may be used on the current stream afterwards.
    """

    def __init__(self, device: torch.device) -> None:
        self.stream = _stream(device) if device.type == "cuda" else None
        self.begin = torch.cuda.current_stream(device).record_event() if self.stream else None

    @contextmanager
    def queue(self) -> Iterator[None]:
        """What is called inside starts at once; the current stream waits for its end."""
        if self.stream is None:
            yield
            return
        current = torch.cuda.current_stream(self.stream.device)
        self.stream.wait_event(self.begin)
        with torch.cuda.stream(self.stream):
            yield
        current.wait_stream(self.stream)


@cache
def _stream(device: torch.device) -> torch.cuda.Stream:
    return torch.cuda.Stream(device, priority=-1)  # small kernels, which should not queue behind the backbones'
