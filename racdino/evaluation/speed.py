"""How fast a detector is, and how much memory it takes."""

from __future__ import annotations

import contextlib
import statistics
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from typing import Any

WARM_UP = 5  # batches: caches, memory pools and the choice of kernels settle


@dataclass(frozen=True)
class Latency:
    """Seconds per sample.

    Attributes:
        median, p90: over the batches, each batch's time divided by its size.
        samples_per_second: all samples over all the time.
    """

    median: float
    p90: float
    samples_per_second: float


@dataclass(frozen=True)
class Speed:
    """Of one process on one device, after the warm-up.

    Attributes:
        model: from inputs on the device to detections on it; every frame computed anew, nothing cached.
        with_loading: from the end of one batch to the end of the next, with waiting for the loaders, the copy to the
            device and the detections' way back.
        peak_memory: bytes; of the tensors on a GPU, of the whole process on a CPU.
    """

    device: str
    batch_size: int
    batches: int
    warm_up: int
    model: Latency
    with_loading: Latency
    peak_memory: int

    def as_json(self) -> dict[str, Any]:
        return asdict(self)

    def table(self) -> str:
        """Three lines."""
        lines = [
            f"speed on {self.device}, batches of {self.batch_size}, {self.batches} measured after {self.warm_up}; "
            f"peak memory {self.peak_memory / 2**30:.2f} GiB"
        ]
        for name, latency in (("model", self.model), ("with loading", self.with_loading)):
            lines.append(
                f"{name:<22}{1e3 * latency.median:>8.1f} ms median{1e3 * latency.p90:>8.1f} ms p90"
                f"{latency.samples_per_second:>8.2f} FPS"
            )
        return "\n".join(lines)


@dataclass
class Stopwatch:
    """Times batches; ``synchronise`` waits until the device has done all its work."""

    synchronise: Callable[[], None]
    sizes: list[int] = field(default_factory=list)
    model: list[float] = field(default_factory=list)
    whole: list[float] = field(default_factory=list)
    _ended: float = field(default_factory=time.perf_counter)

    @contextlib.contextmanager
    def running_model(self) -> Iterator[None]:
        """Around the model's call."""
        self.synchronise()
        begin = time.perf_counter()
        yield
        self.synchronise()
        self.model.append(time.perf_counter() - begin)

    def end_batch(self, size: int) -> None:
        """When the detections of ``size`` samples are on the host."""
        now = time.perf_counter()
        self.sizes.append(size)
        self.whole.append(now - self._ended)
        self._ended = now

    def speed(self, device: str, peak_memory: int) -> Speed | None:
        """None without a batch. Of few batches, half are the warm-up."""
        warm_up = min(WARM_UP, len(self.sizes) // 2)
        if not self.sizes:
            return None
        sizes = self.sizes[warm_up:]
        return Speed(
            device=device,
            batch_size=max(sizes),
            batches=len(sizes),
            warm_up=warm_up,
            model=_latency(self.model[warm_up:], sizes),
            with_loading=_latency(self.whole[warm_up:], sizes),
            peak_memory=peak_memory,
        )


def _latency(seconds: list[float], sizes: list[int]) -> Latency:
    per_sample = sorted(each / size for each, size in zip(seconds, sizes, strict=True))
    p90 = per_sample[-(-9 * len(per_sample) // 10) - 1]  # the smallest that 90 % do not exceed
    return Latency(statistics.median(per_sample), p90, sum(sizes) / sum(seconds))
