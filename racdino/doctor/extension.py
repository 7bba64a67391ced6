"""Is the op compiled, and does what was compiled compute the right thing here?"""

from __future__ import annotations

from racdino.doctor.finding import Finding, Severity

REBUILD = "./fix_dinov2_import.sh"


def compiled() -> Finding:
    """Does the field's module import, with both of its functions?"""
    try:
        import MultiScaleDeformableAttention
    except (ImportError, OSError) as error:
        return Finding("extension.import", Severity.ERROR, f"{type(error).__name__}: {error}", REBUILD)
    missing = [
        name
        for name in ("ms_deform_attn_forward", "ms_deform_attn_backward")
        if not hasattr(MultiScaleDeformableAttention, name)
    ]
    if missing:
        file = MultiScaleDeformableAttention.__file__
        cause = f"{file} lacks {', '.join(missing)}: another project's module stands in front of ours"
        return Finding("extension.import", Severity.ERROR, cause, "remove it from the environment or from PYTHONPATH")
    return Finding("extension.import", Severity.OK, "MultiScaleDeformableAttention with forward and backward")


def computes() -> Finding:
    """Forward and backward of a small case against the float64 reference, on the CPU."""
    try:
        from racdino.verify.op_check import check_op
    except (ImportError, OSError) as error:
        return Finding("extension.result", Severity.ERROR, f"{type(error).__name__}: {error}", REBUILD)
    import torch

    result = check_op(torch.device("cpu"), torch.float32)
    if not result.passed:
        return Finding("extension.result", Severity.ERROR, f"wrong numbers: {result}", REBUILD)
    return Finding("extension.result", Severity.OK, f"right: {result}")
