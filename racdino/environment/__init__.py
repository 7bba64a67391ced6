"""What is installed, compared with what was locked. Standard library only: this runs before anything is installed."""

from __future__ import annotations
