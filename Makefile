# The only list of commands: .ci/run and the README call nothing else.
SHELL := bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help

CACHE := $(or $(XDG_CACHE_HOME),$(HOME)/.cache)/pingpipeline
SCHEDULES ?= 10000
SEED ?=
ROUNDS ?= 3
ATTACK_SECONDS ?= 300
CUT_SECONDS ?= 30
FROM ?=
UPGRADES ?= 20
EVENTS ?= 1000000
MINUTES ?= 10
HOURS ?= 1
JOBS ?= 2
ARGS ?=
SOURCES ?=
SECONDS ?=

# Without `-p`, Cargo builds for the whole workspace's features, so that these commands and the tests share what is built. `make run`
# is the exception: it builds the least.

# rust-toolchain.toml pins the compiler. Where rustup has that version only as `stable`, and no network, that one serves.
PINNED := $(shell sed -n 's/^channel = "\(.*\)"/\1/p' rust-toolchain.toml)
ifeq (,$(RUSTUP_TOOLCHAIN)$(shell rustup toolchain list -q 2>/dev/null | grep -F '$(PINNED)-'))
ifneq (,$(shell rustc +stable --version 2>/dev/null | grep -F ' $(PINNED) '))
export RUSTUP_TOOLCHAIN := stable
endif
endif

.PHONY: help
help: ## Lists the targets
	@awk -F ':.*## ' '/^##@ / {printf "\n%s\n", substr($$0, 5)} /^[a-z0-9-]+:.*## / {printf "  %-20s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

##@ Run

.PHONY: run
run: install-build ## Builds and serves the embedded program on port 8080 (ARGS='--memory' to keep nothing on disk)
	@printf '%s\n' 'Building the embedded server and pingctl: minutes the first time, seconds after that.' >&2
	cargo build -p ping-embedded -p pingctl
	@printf '%s\n' 'Starting the server; Ctrl-C stops it.' >&2
	target/debug/pingd-dev $(ARGS)

.PHONY: parts-up
parts-up: install-build install-parts ## Starts Postgres, Kafka and Redis and builds pingd; prints their addresses as environment lines
	@printf '%s\n' 'Building pingd, pingctl and the testbed: minutes the first time, seconds after that.' >&2
	@cargo build --bin pingd --bin pingctl --bin testbed
	@target/debug/testbed up

.PHONY: parts-down
parts-down: ## Stops them
	@cargo run -q --bin testbed -- down

.PHONY: operator-run
operator-run: install-build ## Runs the operator against $$KUBECONFIG (ARGS='--namespace demo' to watch one namespace)
	PING_ADMIN_LISTEN=$${PING_ADMIN_LISTEN:-127.0.0.1:8083} cargo run -q --bin ping-operator -- run $(ARGS)

.PHONY: fake-operators
fake-operators: install-build ## Simulates the other operators on the control plane: writes their status fields; no pods run
	cargo run -q --bin control-plane -- fake-operators

PREFIX ?= $(HOME)/.local
.PHONY: install
install: install-build ## Builds pingd-dev and pingctl as `make run` does, and puts them into PREFIX=~/.local
	cargo build -p ping-embedded -p pingctl
	install -D -t '$(PREFIX)/bin' target/debug/pingd-dev target/debug/pingctl

##@ Test

.PHONY: quick
quick: install-build ## Runs the tests that start nothing, and 500 schedules of the simulation: under a minute once built
	SCHEDULES=500 cargo test -q --workspace --lib --bins --test architecture --test pure --test simulation

.PHONY: check
check: install-build fmt clippy lint proto deny ## Checks formatting, lints, prose, names, layers, the contract and licences

.PHONY: test
test: install-parts install-prometheus install-nginx install-images test-build ## Runs every test: units, simulation, real parts, chaos, control plane, README (JOBS=1 for one at a time)
	JOBS=$(JOBS) .ci/tests

# What `make test`, `make images` for tests and `make e2e` share.
.PHONY: test-build
test-build: install-build
	cargo test --workspace --no-run

.PHONY: simulate
simulate: MINUTES = 120
simulate: install-build ## Runs the fault simulation alone: SCHEDULES=n for at most MINUTES=n, or SEED=n to replay one
	SCHEDULES=$(SCHEDULES) SEED=$(SEED) MINUTES=$(MINUTES) cargo test -q --workspace --test simulation every_schedule -- --nocapture

.PHONY: chaos
chaos: install-build install-parts ## Kills each part ROUNDS=n times, cuts each link for CUT_SECONDS=n, slows the disk, uses up memory, lets clocks jump; attacks a release server for ATTACK_SECONDS=n; needs root
	ROUNDS=$(ROUNDS) CUT_SECONDS=$(CUT_SECONDS) cargo test -q --workspace --test chaos -- --include-ignored --skip nothing_grows --skip rolling_upgrades --nocapture --test-threads 1
	cargo test -q --workspace --test pipeline full_volume -- --ignored --nocapture
	cargo build -q --release --bin pingd
	PINGD=$(CURDIR)/target/release/pingd ATTACK_SECONDS=$(ATTACK_SECONDS) cargo test -q --workspace --test front_door attacked -- --nocapture

.PHONY: soak
soak: install-build install-parts ## Runs a pipeline for HOURS=n with a random fault per minute; fails if something grows or breaks a promise
	HOURS=$(HOURS) SEED=$(SEED) cargo test -q --workspace --test chaos nothing_grows -- --ignored --nocapture

.PHONY: versions
versions: install-build install-parts install-versions ## Runs contract suites and pipeline tests on Postgres 15 to 18, Redis and Valkey
	testbed/versions.sh

.PHONY: upgrades
upgrades: install-build install-parts ## Upgrades servers and processors from the revision FROM=rev to this tree and back, UPGRADES=n times, under load
	@test -n '$(FROM)' || { echo 'name the revision to upgrade from: make upgrades FROM=REVISION' >&2; exit 2; }
	git worktree add -q --detach '$(CACHE)/upgrade-from' '$(FROM)'
	status=0; \
	CARGO_TARGET_DIR=$(CURDIR)/target/upgrade-from cargo build -q --manifest-path '$(CACHE)/upgrade-from/Cargo.toml' --bin pingd && \
	OLD_PINGD=$(CURDIR)/target/upgrade-from/debug/pingd UPGRADES=$(UPGRADES) \
		cargo test -q --workspace --test chaos rolling_upgrades -- --ignored --nocapture || status=$$?; \
	git worktree remove --force '$(CACHE)/upgrade-from'; exit $$status

.PHONY: fuzz
fuzz: install-build ## Fuzzes the API, decoders and the operator's validation with libFuzzer for MINUTES=n, shared by all targets
	fuzz/libfuzzer.sh $(MINUTES)

.PHONY: clients
clients: install-build install-parts install-clients ## Runs clients in Go, Python, TypeScript and the shell, with their default settings, against the embedded server; the examples also against real parts
	cargo build -q --workspace --examples
	cargo test -q --workspace --test clients --test examples

.PHONY: browser
browser: install-build install-parts install-browser ## Runs the page in Chromium: live values, outages, ten pages at once, WCAG AA by axe
	cargo test -q --workspace --test browser

.PHONY: monitoring
monitoring: install-build install-parts install-prometheus ## Runs every query of dashboards and alerts on a real Prometheus, and lets alerts fire
	cargo test -q --workspace --test monitoring --test dashboard -- --nocapture

.PHONY: docs-test
docs-test: install-build install-parts install-prometheus install-control-plane ## Runs every command of the README and the tutorials as written
	cargo test -q --workspace --test readme

.PHONY: screenshots
screenshots: install-build install-browser ## Writes the README's images of the page into docs/images
	cargo test -q --workspace --test browser screenshots -- --ignored

.PHONY: oracle
oracle: install-build install-parts ## Compares every view with SQL over the rows: EVENTS=n shuffled, late, duplicate and invalid ones, SEED=n
	EVENTS=$(EVENTS) SEED=$(SEED) cargo test -q --workspace --test oracle every_view -- --nocapture

.PHONY: e2e e2e-short
e2e: install-backups ## Installs, applies, breaks, upgrades, deletes and restores pipelines on a real cluster; needs root
e2e-short: export FAULTS = access,capture,policies,drills,every server pod killed,Postgres primary
e2e-short: ## Does the same with two of the faults, the drills and the NetworkPolicies: what .ci/run runs
e2e e2e-short: install-build install-cluster
	images/build.sh --debug
	trap 'target/debug/cluster down' EXIT; \
	cargo test -q --workspace --test e2e -- --ignored --skip release:: --nocapture --test-threads 1

RELEASE ?= target/release-artifacts
.PHONY: e2e-release
e2e-release: install-build install-cluster ## Installs a release on a real cluster from its files alone, with Helm and without: RELEASE=folder; needs root
	trap 'target/debug/cluster down' EXIT; \
	RELEASE='$(abspath $(RELEASE))' cargo test -q --workspace --test e2e release:: -- --ignored --nocapture

.PHONY: bench
bench: install-build install-parts install-bench ## Measures ratios to the limits of the parts, in minutes; `make bench PART` for one; writes bench/results/
	cargo build -q --release -p pingd -p pingctl --bins
	cargo run -q --release -p ping-bench -- $(filter $(BENCH_PARTS),$(MAKECMDGOALS)) \
	  $(if $(SOURCES),--sources $(SOURCES)) $(if $(SECONDS),--seconds $(SECONDS))

# `make bench sources` has two goals: the second one says what the first one measures.
BENCH_PARTS := limits json grpc stream security freshness status drain sources
.PHONY: $(BENCH_PARTS)
$(BENCH_PARTS): bench
	@:

##@ Build

.PHONY: images
images: install-build install-images ## Packs the two images as archives in target/images, with sizes and lists of their parts; minutes
	images/build.sh

VERSION ?=
ARCHS ?= x86_64 aarch64
.PHONY: release
release: export ARCHS := $(ARCHS)
release: install-build install-images ## Builds all files of a release into target/release-artifacts: VERSION=0.1.0, ARCHS=x86_64 for one architecture
	@testbed/control-plane/install.sh helm >&2
	release/build.sh "$(VERSION)"

.PHONY: doc
doc: install-build ## Builds the API documentation of every crate into target/doc; a warning fails
	RUSTDOCFLAGS='-D warnings' cargo doc --no-deps --workspace

.PHONY: docs
docs: install-docs ## Builds the documentation as a website in target/docs/book
	docs/build.sh $(CACHE)/bin/mdbook

.PHONY: reference
reference: export UPDATE = 1
reference: install-build install-parts install-prometheus install-jsonschema ## Writes docs/reference from the source; tests say when that is due
	cargo test -q --workspace --bin pingd --bin ping-operator reference
	cargo test -q --workspace --test pure reference
	@testbed/install.sh buf
	cd proto && PATH="$(CACHE)/bin:$$PATH" buf generate
	cargo test -q --workspace --test openapi
	cargo test -q --workspace --test monitoring queries_have_data

.PHONY: page
page: install-browser ## Bundles the page's script and style sheet from dataplane/rpc/page; a test says when that is due
	dataplane/rpc/page/build.sh

.PHONY: generate
generate: install-build install-control-plane ## Writes the CRDs, the chart as plain YAML and the chart's README from the source
	cargo build -q --bin ping-operator
	for crd in pingpipelines pingreferencegrants; do \
	  target/debug/ping-operator crd $$crd | tee crds/$$crd.pingpipeline.io.yaml >charts/ping-operator/files/$$crd.pingpipeline.io.yaml; done
	charts/plain/generate.sh $(CACHE)/helm-*/helm
	cargo run -q --bin release -- chart-readme charts/ping-operator >charts/ping-operator/README.md.new
	mv charts/ping-operator/README.md.new charts/ping-operator/README.md

##@ Clusters

.PHONY: control-plane-up
control-plane-up: install-build install-control-plane ## Starts a Kubernetes API server with all CRDs; prints the line with KUBECONFIG and PATH
	@cargo run -q --bin control-plane -- up

.PHONY: control-plane-down
control-plane-down: ## Stops it
	@cargo run -q --bin control-plane -- down

.PHONY: cluster-up
cluster-up: install-build install-cluster ## Starts two nodes with our images, CloudNativePG and stand-ins; needs root; prints the KUBECONFIG line
	@images/build.sh --debug >&2
	@target/debug/cluster up target/images/*.tar

.PHONY: cluster-down
cluster-down: ## Stops it and undoes all changes to the machine
	@target/debug/cluster down

##@ Maintenance

.PHONY: fmt
fmt: ## Checks formatting
	cargo fmt --all --check

.PHONY: clippy
clippy: ## Checks lints
ifeq ($(notdir $(RUSTC_WORKSPACE_WRAPPER)),clippy-driver)
	cargo test -q --workspace --no-run
else
	cargo clippy -q --workspace --all-targets -- -D warnings
endif

.PHONY: lint
lint: ## Checks spelling, phrases, names, layers, import cycles and sizes: see lint/
	@testbed/install.sh typos
	$(CACHE)/bin/typos --config lint/typos.toml
	cargo test -q --workspace --test architecture

# Accepted is what lint/proto.yaml says, and not an earlier commit: a clone may have none, and nothing is released yet. It is YAML
# because a review can read it: its diff is what clients see.
.PHONY: proto
proto: ## Checks the contract: its style, and that it breaks no client of the accepted one. See proto/buf.yaml
	@testbed/install.sh buf
	$(CACHE)/bin/buf lint proto
	$(CACHE)/bin/buf breaking proto --against lint/proto.yaml || \
	  { echo 'Keep the accepted contract, or accept this one with `make proto-accept`.' >&2; exit 1; }

.PHONY: proto-accept
proto-accept: ## Accepts the contract as it is: rewrites lint/proto.yaml
	@testbed/install.sh buf
	$(CACHE)/bin/buf build proto --exclude-source-info -o lint/proto.yaml
	sed -i '1i # Written by `make proto-accept`: the accepted contract, which `make proto` compares with proto/.' lint/proto.yaml

.PHONY: deny
deny: ## Checks licences and bans of dependencies
	@testbed/install.sh deny
	$(CACHE)/bin/cargo-deny --log-level error check bans licenses sources

.PHONY: install-build install-parts install-bench install-images install-conformance install-clients install-browser \
  install-prometheus install-nginx install-jsonschema install-docs install-versions install-control-plane install-cluster install-backups
install-build install-parts install-bench install-images install-conformance install-clients install-browser install-prometheus install-nginx install-jsonschema install-docs install-versions:
	@testbed/install.sh $(@:install-%=%)

install-control-plane:
	@testbed/control-plane/install.sh >&2

install-cluster: install-control-plane
	@testbed/control-plane/install.sh nodes coredns kube-router cnpg containers

install-backups: install-cluster
	@testbed/control-plane/install.sh barman-cloud
