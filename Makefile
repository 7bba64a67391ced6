# Only forwards: `make VERB` sets the environment up if need be and calls `invoke VERB` (tasks.py).
VERBS := lock verify test lint bench
INVOKE := .venv/bin/python -m invoke

.PHONY: help setup $(VERBS)

help:
	@echo "make setup | verify | test | lint | bench | lock   (each is invoke's task of that name; see tasks.py)"
	@echo "VARIANT=cpu|cu118 chooses the variant; FRAME=DIR gives verify the six camera images of a frame"

setup:
	@scripts/bootstrap.sh

$(VERBS): setup
	@$(INVOKE) $@ $(OPTIONS)

verify: OPTIONS = $(if $(FRAME),--frame "$(FRAME)")
