"""Mending what checks found: the plan a check proposes, the edits, the backup that ``--undo`` restores."""
