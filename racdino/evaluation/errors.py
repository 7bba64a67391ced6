"""What an evaluation refuses."""

from __future__ import annotations


class EvaluationError(ValueError):
    """Something given to the evaluation cannot be used; the message is one sentence: what, where, what to do."""
