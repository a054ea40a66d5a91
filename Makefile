# make run     a traced command and its report
# make test    everything CI runs
# make test-slim
#              real applications in full and in rebuilt roots: all of them, which takes minutes
# make fuzz    hostile input for the parsers, SECONDS for each
# Both need root, as tracing does, and install what they lack (Debian, Ubuntu).

CARGO ?= cargo
SNOOP = target/release/snoop
REPORT = target/snoop-report.json
COMMAND ?= ls -l /etc/os-release

# What each verb runs or includes, and the Debian package it comes from.
BUILD_NEEDS = clang:clang cc:gcc /usr/include/bpf/bpf_helpers.h:libbpf-dev
TEST_NEEDS = c++:g++ strace:strace git:git curl:curl prometheus:prometheus rsync:rsync cpio:cpio /usr/include/liburing.h:liburing-dev runc:runc debootstrap:debootstrap /bin/busybox:busybox-static /usr/bin/python3:python3 unshare:util-linux /usr/include/stdio.h:libc6-dev /lib/ld-linux.so.2:gcc-multilib

SECONDS ?= 60

.PHONY: all run test test-slim fuzz check-root build-needs test-needs clean

all: build-needs
	$(CARGO) build --release --locked

run: check-root all
	$(SNOOP) run -report $(REPORT) -- $(COMMAND)
	cat $(REPORT)

test: check-root build-needs test-needs
	$(CARGO) fmt --check
	$(CARGO) clippy --workspace --all-targets --locked -- -D warnings
	$(CARGO) test --workspace --lib --locked
	$(CARGO) test --workspace --release --locked
	scripts/fuzz 5

test-slim: check-root build-needs test-needs
	$(CARGO) test --release --locked --test slim -- --include-ignored --nocapture --test-threads=1

fuzz: build-needs
	scripts/need c++:g++
	scripts/fuzz $(SECONDS)

check-root:
	@[ "$$(id -u)" = 0 ] || { echo "make: snoop loads BPF programs: run this as root" >&2; exit 1; }

build-needs:
	@scripts/need $(BUILD_NEEDS)

test-needs:
	@scripts/need $(TEST_NEEDS)

clean:
	$(CARGO) clean
