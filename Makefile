# Only forwards: `make VERB` sets the environment up if need be and calls `invoke VERB` (tasks.py).
VERBS := lock verify demo test lint bench
INVOKE := .venv/bin/python -m invoke

.PHONY: help setup image test-image $(VERBS)

help:
	@echo "make setup | demo | verify | test | lint | bench | lock   (each is invoke's task of that name; see tasks.py)"
	@echo "make image | test-image                            (invoke build and invoke test --image)"
	@echo "VARIANT=cpu|cu118 chooses the variant; FRAME=DIR gives verify the six camera images of a frame;"
	@echo "TARGET=dev, ARCH_LIST=9.0, BUNDLE=DIR and ENGINE=docker|podman go to image"

setup:
	@scripts/bootstrap.sh

$(VERBS): setup
	@$(INVOKE) $@ $(OPTIONS)

verify: OPTIONS = $(if $(FRAME),--frame "$(FRAME)")

# Needs no environment on this machine: the tools alone.
image:
	@scripts/bootstrap.sh --tools build $(foreach option,VARIANT TARGET BUNDLE ENGINE TAG,$(if $($(option)),--$(shell echo $(option) | tr A-Z a-z) "$($(option))")) $(if $(ARCH_LIST),--arch-list "$(ARCH_LIST)")

test-image: setup
	@$(INVOKE) test --image
