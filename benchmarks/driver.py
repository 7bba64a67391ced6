"""Load a cubin and launch its kernels through the CUDA driver alone, in the context and stream torch uses."""

from __future__ import annotations

import ctypes
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

MAX_DYNAMIC_SHARED_SIZE_BYTES = 8  # a CUfunction_attribute of cuda.h


class Problem(ctypes.Structure):
    """`racdino::cuda::Problem` of racdino/csrc/cuda/launch.h, field by field."""

    _fields_ = (
        *((name, ctypes.c_void_p) for name in ("value", "spatial_shapes", "level_start_index", "locations", "weights")),
        *(
            (name, ctypes.c_void_p)
            for name in ("grad_output", "output", "grad_value", "grad_locations", "grad_weights")
        ),
        *((name, ctypes.c_int64) for name in ("B", "S", "Q")),
        *((name, ctypes.c_int32) for name in ("M", "D", "L", "P")),
    )

    def __init__(self, inputs: tuple[Tensor, ...], **pointers: Tensor) -> None:
        value, spatial_shapes, level_start_index, locations, weights = inputs
        B, S, M, D = value.shape
        Q, L, P = locations.shape[1], locations.shape[3], locations.shape[4]
        named = {
            "value": value,
            "spatial_shapes": spatial_shapes,
            "level_start_index": level_start_index,
            "locations": locations,
            "weights": weights,
            **pointers,
        }
        super().__init__(
            **{name: tensor.data_ptr() for name, tensor in named.items()}, B=B, S=S, Q=Q, M=M, D=D, L=L, P=P
        )
        self.kept_alive = named


class Fusion(ctypes.Structure):
    """`racdino::cuda::Fusion`, alike; one reference point per query for all levels."""

    _fields_ = (
        *((name, ctypes.c_void_p) for name in ("reference", "offsets", "logits")),
        *((name, ctypes.c_int64) for name in ("batch_step", "query_step", "level_step")),
        *((name, ctypes.c_int32) for name in ("boxes", "storage")),
    )

    def __init__(self, reference: Tensor, offsets: Tensor, logits: Tensor) -> None:
        storage = [torch.float64, torch.float32, torch.float16, torch.bfloat16].index(offsets.dtype)
        pointers = (tensor.data_ptr() for tensor in (reference, offsets, logits))
        super().__init__(*pointers, reference.stride(0), reference.stride(1), 0, reference.shape[-1] == 4, storage)
        self.kept_alive = (reference, offsets, logits)


class Parts(ctypes.Structure):
    """`racdino::cuda::Parts` of racdino/csrc/cuda/stream.cuh, where one part has all queries."""

    _fields_ = (
        *((name, ctypes.c_int) for name in ("tiles", "longer")),
        ("apart", ctypes.c_bool),
        ("image", ctypes.c_int),
    )

    def __init__(self, tiles: int) -> None:
        super().__init__(tiles, 0, False, 0)


class Samples(ctypes.Structure):
    """`racdino::cuda::Samples`, alike."""

    _fields_ = (
        *((name, ctypes.c_void_p) for name in ("cell", "sample")),
        ("count", ctypes.c_int32),
        ("cells", ctypes.c_int64),
    )

    def __init__(self, cell: Tensor, sample: Tensor, cells: int) -> None:
        super().__init__(cell.data_ptr(), sample.data_ptr(), len(cell), cells)
        self.kept_alive = (cell, sample)


class Tiles(ctypes.Structure):
    """`racdino::cuda::Tiles`, alike, with the sizes that ``tiles_for`` of backward_gather.cu chooses."""

    _fields_ = (
        *((name, ctypes.c_void_p) for name in ("samples", "starts", "sums")),
        *((name, ctypes.c_int32) for name in ("most", "chunk", "chunks")),
    )

    def __init__(self, weights: Tensor, sums: Tensor) -> None:
        B, Q, M, L, P = weights.shape
        most = min(max(Q * P // 192, 1), 512)
        chunk = max(1024, -(-Q * P // (64 * 128)) * 128)
        chunks = -(-Q * P // chunk)
        samples = torch.empty(weights.numel(), dtype=torch.int32, device="cuda")
        starts = torch.empty(B * M * L * chunks, 4 * most + 1, dtype=torch.int32, device="cuda")
        super().__init__(samples.data_ptr(), starts.data_ptr(), sums.data_ptr(), most, chunk, chunks)
        self.kept_alive = (samples, starts, sums)


class Cubin:
    """A loaded cubin."""

    def __init__(self, path: Path) -> None:
        torch.cuda.init()
        torch.zeros(1, device="cuda")  # makes torch's context the current one
        self._driver = ctypes.CDLL("libcuda.so.1")
        self._module = ctypes.c_void_p()
        self._call("cuModuleLoadData", ctypes.byref(self._module), ctypes.c_char_p(path.read_bytes()))

    def launch(
        self, kernel: str, blocks: int | tuple[int, int, int], threads: int, shared_bytes: int, *arguments: Any
    ) -> None:
        """Launch ``kernel`` on torch's current stream."""
        grid = (blocks, 1, 1) if isinstance(blocks, int) else blocks
        function = ctypes.c_void_p()
        self._call("cuModuleGetFunction", ctypes.byref(function), self._module, kernel.encode())
        self._call("cuFuncSetAttribute", function, MAX_DYNAMIC_SHARED_SIZE_BYTES, shared_bytes)
        pointers = (ctypes.c_void_p * len(arguments))(*(ctypes.addressof(argument) for argument in arguments))
        stream = ctypes.c_void_p(torch.cuda.current_stream().cuda_stream)
        self._call("cuLaunchKernel", function, *grid, threads, 1, 1, shared_bytes, stream, pointers, None)

    def _call(self, name: str, *arguments: object) -> None:
        if status := getattr(self._driver, name)(*arguments):
            raise RuntimeError(f"{name} failed with CUDA driver error {status}")
