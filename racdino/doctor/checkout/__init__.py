"""Checks of a checkout: `subject.py` reads it, each module beside it is one theme."""
