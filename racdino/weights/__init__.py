"""Published weights: which there are, where they are looked for, how they are read, checked and fetched.

Standard library: `catalogue` (names, URLs, hashes), `search` (the folders), `fetch` (the download, with tqdm).
With torch: `checkpoint` (reads a file without executing it), `loading` (brings it into a model).
"""

from __future__ import annotations

from racdino.weights.catalogue import (
    CATALOGUE,
    Architecture,
    Published,
    PublishedCheckpoint,
    published,
    published_dinov2,
    published_for,
)
from racdino.weights.search import WeightsNotFoundError, existing_file, find, find_or_none, search_folders, user_folder

__all__ = [
    "CATALOGUE",
    "Architecture",
    "Published",
    "PublishedCheckpoint",
    "WeightsNotFoundError",
    "existing_file",
    "find",
    "find_or_none",
    "published",
    "published_dinov2",
    "published_for",
    "search_folders",
    "user_folder",
]
