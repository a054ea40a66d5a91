# make run     a traced command and its report
# make test    everything CI runs
# make test-slim
#              real applications in full and in rebuilt roots: all of them, which takes minutes
# make static  target/ARCH/snoop, static binaries; ARCHES="x86_64 aarch64"
# make image   an image of the static binary, by buildah; prints its size
# make test-kernels
#              the static binary on kernels from 5.10 on and on arm64, under qemu, and on the images in KERNELS (paths):
#              one of Linux 5.4 if it lies beside this directory, which `make test` boots too
# make bench   what tracing costs the traced programs and their neighbours, and what snoop takes, in tables
# make soak    churning containers, processes and names for MINUTES: nothing of snoop grows
# make fuzz    hostile input for the parsers, SECONDS for each
# All but static, image and fuzz need root, as tracing does; all install what they lack (Debian, Ubuntu).

CARGO ?= cargo
SNOOP = target/release/snoop
REPORT = target/snoop-report.json
ARCHES ?= x86_64 aarch64
STATIC = target/x86_64/snoop
BUDGET = 1000000
COMMAND ?= ls -l /etc/os-release

# What each verb runs or includes, and the Debian package it comes from.
BUILD_NEEDS = clang:clang cc:gcc /usr/include/bpf/bpf_helpers.h:libbpf-dev
TEST_NEEDS = pkill:procps c++:g++ strace:strace git:git curl:curl jq:jq prometheus:prometheus rsync:rsync cpio:cpio /usr/include/liburing.h:liburing-dev runc:runc debootstrap:debootstrap /bin/busybox:busybox-static /usr/bin/python3:python3 /usr/lib/python3/dist-packages/pip:python3-pip setcap:libcap2-bin unshare:util-linux /usr/include/stdio.h:libc6-dev

SECONDS ?= 60
# No release of Debian has a kernel of 5.4.
KERNELS ?= $(wildcard ../shared/kernels/vmlinuz-5.4)
MINUTES ?= 10

without_old = [ "$(KERNELS)" ] || echo "make: not tested on Linux 5.4: there is no ../shared/kernels/vmlinuz-5.4, nor KERNELS=IMAGE"

.PHONY: all run test static image test-slim test-kernels bench soak fuzz check-root build-needs test-needs clean

all: build-needs
	$(CARGO) build --release --locked

run: check-root all
	$(SNOOP) run -report $(REPORT) -- $(COMMAND)
	cat $(REPORT)

test: check-root build-needs test-needs
	$(CARGO) fmt --check
	$(CARGO) clippy --workspace --all-targets --locked -- -D warnings
	$(CARGO) test --workspace --lib --locked
	scripts/static x86_64
	@size=$$(stat -c %s $(STATIC)); echo "static binary: $$size bytes"; \
	[ $$size -le $(BUDGET) ] || { echo "make: that is more than $(BUDGET)" >&2; exit 1; }
	SNOOP_BINARY=$(CURDIR)/$(STATIC) $(CARGO) test --workspace --release --locked
	# The variable does not reach the containers of Podman and Docker.
	SNOOP_BUFFER=perf SNOOP_BINARY=$(CURDIR)/$(STATIC) $(CARGO) test --release --locked --tests -- --skip podman_ --skip docker_
	@$(without_old)
	scripts/test-kernels bullseye $(KERNELS)
	scripts/sanitize
	scripts/fuzz 5

static: build-needs
	@for arch in $(ARCHES); do scripts/static $$arch && ls -l target/$$arch/snoop || exit 1; done

image: build-needs
	scripts/need buildah:buildah
	scripts/static x86_64
	buildah bud --quiet --isolation chroot -f scratch.Dockerfile --target prebuilt -t localhost/snoop:0.1.0 .
	buildah images | grep -E 'SIZE|/snoop '

test-slim: check-root build-needs test-needs
	$(CARGO) test --release --locked --test slim -- --include-ignored --nocapture --test-threads=1

test-kernels: build-needs
	@$(without_old)
	scripts/test-kernels $(KERNELS) bullseye bookworm trixie trixie-backports trixie:arm64

bench: check-root build-needs
	scripts/need python3:python3 git:git find:findutils
	scripts/static x86_64
	SNOOP_BINARY=$(CURDIR)/$(STATIC) $(CARGO) bench --locked --bench overhead --bench footprint

soak: check-root build-needs test-needs
	scripts/static x86_64
	SNOOP_SOAK=$$(($(MINUTES) * 60)) SNOOP_BINARY=$(CURDIR)/$(STATIC) $(CARGO) test --release --locked --test soak -- --nocapture

fuzz: build-needs
	scripts/need c++:g++
	scripts/fuzz $(SECONDS)

check-root:
	@[ "$$(id -u)" = 0 ] || { echo "make: snoop loads BPF programs: run this as root" >&2; exit 1; }

build-needs:
	@scripts/need $(BUILD_NEEDS)

test-needs:
	@scripts/need $(TEST_NEEDS)
	@# For programs of 32 bits. The package without a version conflicts with compilers for arm64.
	@version=$$(cc -dumpversion | cut -d. -f1); \
	scripts/need /usr/lib/gcc/x86_64-linux-gnu/$$version/32/libgcc.a:gcc-$$version-multilib
	@[ -d target/python/kubernetes_validate ] || \
	/usr/bin/python3 -m pip install --quiet --target target/python kubernetes-validate

clean:
	$(CARGO) clean
