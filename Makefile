# Two commands are all a newcomer needs: `make demo` and `make test`. Each sets up what it needs first.
# ARGS go through: make demo ARGS="--once --json", make test ARGS="src/nix test/e2e/lab.test.ts".
NODE = PATH="$(CURDIR)/node_modules/.bin:$$PATH" exec node

.PHONY: demo test setup

demo:
	@scripts/setup.sh demo
	@$(NODE) scripts/demo.ts $(ARGS)

test: setup
	@$(NODE) scripts/run-tests.ts $(ARGS)

setup:
	@scripts/setup.sh
