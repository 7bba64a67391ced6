#!/bin/sh
# Build the op and run the five verification steps: ./fix_dinov2_import.sh
# May be run again at any time: a build that is up to date takes seconds. PYTHON chooses the interpreter.
set -eu
cd "$(dirname "$0")"

if [ -z "${PYTHON:-}" ]; then
    PYTHON=python3
    [ -x .venv/bin/python ] && PYTHON=.venv/bin/python
fi
if ! "$PYTHON" -c "import torch, mmcv" 2>/dev/null; then
    echo "fix_dinov2_import.sh: $PYTHON has no torch and mmcv; run 'make setup' first, or set PYTHON to one that has." >&2
    exit 1
fi

echo "building the op with $PYTHON"
if ! "$PYTHON" setup.py build_ext --inplace; then
    echo "fix_dinov2_import.sh: the build failed; its message is above. A compiler is needed: apt install g++, dnf install gcc-c++." >&2
    exit 1
fi
exec "$PYTHON" -m racdino.verify.steps
