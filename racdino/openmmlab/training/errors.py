"""What a run refuses, in one sentence."""

from __future__ import annotations


class TrainingError(Exception):
    """The run cannot start or go on; the message is one sentence that says why and what to do."""
