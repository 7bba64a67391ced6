"""What can stop a build or a run of the image: always one sentence that ends in a way on."""

from __future__ import annotations


class ImageError(RuntimeError):
    """The message is for the user: what is missing, where, and the command that mends it."""
