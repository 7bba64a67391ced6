"""What `racdino._C` leaves to Python: the shapes of the operators' results, for torch.compile and meta tensors.

Autograd, autocast and the kernels are registered in ``csrc/``, in the folder of their dispatch key.
"""

from __future__ import annotations

import torch

from racdino.ops import _backbone_shapes, _shapes

_SHAPES = {**_shapes.SHAPES, **_backbone_shapes.SHAPES}

if hasattr(torch.library, "register_fake"):  # torch >= 2.4
    for name, shapes in _SHAPES.items():
        torch.library.register_fake(f"racdino::{name}")(shapes)
else:
    LIBRARY = torch.library.Library("racdino", "IMPL")  # kept: the registrations live as long as it does
    for name, shapes in _SHAPES.items():
        LIBRARY.impl(name, shapes, "Meta")
