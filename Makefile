# Two commands are all a newcomer needs: `make demo` and `make test`. Each sets up what it needs first.
# ARGS go through: make demo ARGS="--once --json", make test ARGS="src/nix test/e2e/lab.test.ts".
NODE = PATH="$(CURDIR)/node_modules/.bin:$$PATH" exec node

.PHONY: demo test test-thorough test-s3 test-faults test-boot test-crash test-replicas test-nix-pairs test-attic setup

demo:
	@scripts/setup.sh demo
	@$(NODE) scripts/demo.ts $(ARGS)

# Boot trials on emulated machines with OVMF and systemd-boot; a few minutes. Installs QEMU and a kernel when missing.
test-boot:
	@scripts/setup.sh boot
	@$(NODE) test/e2e/boot-suite-main.ts $(ARGS)

test-faults: setup
	@$(NODE) test/e2e/fault-suite-main.ts $(ARGS)

test: setup
	@$(NODE) scripts/run-tests.ts $(ARGS)

# Variations of the faults that `make test` has one of each.
test-thorough: setup
	@SLIPWAY_THOROUGH=1 $(NODE) scripts/run-tests.ts test/e2e/deploy-faults test/e2e/boot-trial test/e2e/deploy-trial

# The S3 tests once more, against a strict and complete server that is built by its own toolchain.
test-s3: setup
	@SLIPWAY_VERSITYGW="$$(scripts/s3-gateway.sh)" && export SLIPWAY_VERSITYGW && \
	  $(NODE) scripts/run-tests.ts test/contract/s3- test/contract/cache-on-s3

# A server is killed -9 a thousand times, on each pair of storage; ARGS="--kills 100 --only disk+sqlite --seed 7".
test-crash: setup
	@SLIPWAY_VERSITYGW="$$(scripts/s3-gateway.sh)" && export SLIPWAY_VERSITYGW && \
	  $(NODE) test/e2e/crash-suite-main.ts $(ARGS)

# Three servers on one PostgreSQL and one bucket: one is killed, the database crashes, readers and writers go on.
test-replicas: setup
	@SLIPWAY_VERSITYGW="$$(scripts/s3-gateway.sh)" && export SLIPWAY_VERSITYGW && \
	  $(NODE) test/e2e/replica-suite-main.ts $(ARGS)

# The real nix, Debian's and a newer one, pushes, pulls, resumes, verifies and asks for logs on each pair of storage.
test-nix-pairs: setup
	@SLIPWAY_VERSITYGW="$$(scripts/s3-gateway.sh)" && export SLIPWAY_VERSITYGW && \
	  PATH="$(CURDIR)/node_modules/.bin:$$PATH" && newer="$$(node test/e2e/lab/newer-nix-main.ts)" && \
	  for path in "$$PATH" "$$newer:$$PATH"; do for pair in "disk sqlite" "disk postgres" "s3 sqlite" "s3 postgres"; do \
	    echo "== $$(PATH="$$path" nix --version 2>&1 | tail -n 1), $$pair" && \
	    PATH="$$path" SLIPWAY_TEST_STORAGE="$$pair" node --test test/e2e/cache-nix-pair-main.ts || exit 1; done; done

# The real client of Attic: ATTIC=path of its program, which needs Nix's C++ libraries to be built. As root.
test-attic: setup
	@SLIPWAY_ATTIC="$(ATTIC)" $(NODE) --test test/e2e/attic-client-main.ts

setup:
	@scripts/setup.sh
