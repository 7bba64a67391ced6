"""The one error of loading a sample."""

from __future__ import annotations


class SampleError(ValueError):
    """A sample cannot be loaded; the message is one sentence that names the sample, the file and what to do."""
