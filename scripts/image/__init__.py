"""The container image, seen from the host: its build and its run. Standard library only; no .venv is needed."""
