#!/bin/sh
# Mend what keeps DINOv2 from being imported, an op that is not built among it, and run the five verification steps:
# ./fix_dinov2_import.sh. May be run again at any time: what is in order stays as it is. PYTHON chooses the interpreter.
set -eu
cd "$(dirname "$0")"

if [ -z "${PYTHON:-}" ]; then
    PYTHON=python3
    [ -x .venv/bin/python ] && PYTHON=.venv/bin/python
fi
"$PYTHON" -m racdino.doctor --fix --yes --only RD301,imports,extensions . && exec "$PYTHON" -m racdino.verify.steps
