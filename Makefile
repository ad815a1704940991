# Two commands do everything on a fresh Debian with Rust: `make hello` and `make test`.
SHELL := /bin/bash
TARGET := $(or $(CARGO_TARGET_DIR),target)
TRIPLE := $(shell rustc -vV | sed -n 's/^host: //p')
PROGRAMS := $(addprefix -p ,ferry-cli ferry-daemon ferry-shim ferry-network ferry-runtime)
# Extra arguments for the test programs, such as a name: make test ARGS=leak
ARGS ?=

.PHONY: hello build test torture test-map test-vm record-oracle bench clean

## hello: install what apt must give, build the release and say hello
hello: build
	@scripts/packages run
	$(TARGET)/release/ferry run hello-world

## build: the release binaries, side by side in target/release
build:
	@scripts/packages build
	cargo build --release --bins $(PROGRAMS)
	@mkdir -p $(TARGET)/release
	@for program in $(TARGET)/$(TRIPLE)/release/ferry*; do \
	    if [[ -f $$program && -x $$program ]]; then ln -f $$program $(TARGET)/release/ || cp -f $$program $(TARGET)/release/; fi; \
	done

## test: everything the tests need, then all tests (end-to-end ones need root and are skipped loudly without)
test:
	@scripts/packages build test
	@scripts/python-clients
	cargo build --workspace --bins
	FERRY_TEST_REQUIRE_ALL=$${FERRY_TEST_REQUIRE_ALL-$$([[ $$EUID == 0 ]] && echo 1)} \
	    cargo test --workspace --no-fail-fast -- $(ARGS)

## torture: what takes minutes; 500 rounds unless ROUNDS says otherwise
torture:
	@scripts/packages build test
	cargo build --workspace --bins
	FERRY_TEST_TORTURE=$(or $(ROUNDS),500) cargo test --workspace --test it -- torture:: --nocapture
	FERRY_TORTURE=100 FERRY_SCALE=1000 cargo test --workspace --test it -- --test-threads 1 churn:: scale::a_bridge

## test-map: proves for every flag, endpoint and query parameter that a test fails when it is ignored
test-map:
	@scripts/packages build test
	@scripts/python-clients
	cargo build --workspace --bins
	FERRY_TEST_MAP=$${FERRY_TEST_MAP-all} cargo test -p ferry-testkit --test it -- map::

## test-vm: the same binaries in a virtual machine: stock kernel, cgroup v2 only, systemd, AppArmor
test-vm:
	@scripts/packages build vm
	cargo build --workspace --bins
	scripts/vm-test $(TARGET)/$(TRIPLE)/debug

## record-oracle: ask real Docker daemons for the answers that ferry's are compared with
record-oracle:
	@scripts/packages build test oracle
	cargo run -p ferry-testkit --bin record-oracle -- $(ARGS)

## bench: how to compare engines
bench: build
	@echo "Run your comparison with these programs, everything of an engine below one folder:"
	@echo "  $(TARGET)/release/ferryd --data-root DIR/data --exec-root DIR/exec -p DIR/ferry.pid -H unix://DIR/ferry.sock"
	@echo "  DOCKER_HOST=unix://DIR/ferry.sock $(TARGET)/release/ferry run --rm busybox true"

clean:
	cargo clean
