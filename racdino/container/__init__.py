"""The image's entrypoint, ``python -I -m racdino.container COMMAND ...`` under tini. Standard library only."""

from __future__ import annotations
