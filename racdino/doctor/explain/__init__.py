"""``racdino doctor explain``: the known problem behind an error's text, offline. Standard library only, Python 3.8."""
