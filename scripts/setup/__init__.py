"""Make or update .venv: run by scripts/bootstrap.sh with the base Python 3.10, before anything is installed."""
