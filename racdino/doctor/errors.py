"""The one error that ends the doctor with exit status 2."""

from __future__ import annotations


class DoctorError(Exception):
    """The doctor cannot do what it was asked; the message is one sentence, the exit status 2."""
