# The only list of commands: .ci/run and the README call nothing else.
SHELL := bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help

CACHE := $(or $(XDG_CACHE_HOME),$(HOME)/.cache)/pingpipeline
SCHEDULES ?= 10000
SEED ?=
ROUNDS ?= 3
EVENTS ?= 1000000
ARGS ?=

.PHONY: help
help: ## Lists the targets
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / {printf "  %-20s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

.PHONY: run
run: install-build ## Serves embedded, in one process: prints the address and what to try (ARGS='--memory' keeps nothing)
	cargo build -q --bin pingd --bin pingctl
	target/debug/pingd dev $(ARGS)

.PHONY: test
test: install-build install-parts install-control-plane ## Passes everything: units, simulation, real parts, chaos, control plane, README
	cargo test --workspace --no-fail-fast

.PHONY: check
check: install-build fmt clippy deny ## Format, lints, licences

.PHONY: generate
generate: install-build install-control-plane ## Regenerates files from source: the CRD, and the chart as plain YAML
	cargo build -q -p ping-operator --bin ping-operator
	target/debug/ping-operator crd | tee crds/pingpipelines.pingpipeline.io.yaml >charts/ping-operator/files/pingpipelines.pingpipeline.io.yaml
	charts/plain/generate.sh $(CACHE)/helm-*/helm

.PHONY: fmt
fmt:
	cargo fmt --all --check

.PHONY: clippy
clippy:
	cargo clippy -q --workspace --all-targets -- -D warnings

.PHONY: deny
deny:
	@testbed/install.sh deny
	$(CACHE)/bin/cargo-deny --log-level error check bans licenses sources

.PHONY: simulate
simulate: install-build ## The fault simulation alone: SCHEDULES=n, or SEED=n to replay one
	SCHEDULES=$(SCHEDULES) SEED=$(SEED) cargo test -q --workspace --test simulation every_schedule -- --nocapture

.PHONY: chaos
chaos: install-build install-parts ## The kill test on real parts: ROUNDS=n kills of each part
	ROUNDS=$(ROUNDS) cargo test -q --workspace --test chaos -- --nocapture

.PHONY: oracle
oracle: install-build install-parts ## SQL over the rows against every view: EVENTS=n shuffled, late, doubled and broken ones, SEED=n
	EVENTS=$(EVENTS) SEED=$(SEED) cargo test -q --workspace --test oracle every_view -- --nocapture

.PHONY: bench
bench: install-build install-parts install-bench ## Ratios against the limits of the parts, in one run of a few minutes; writes bench/results/
	cargo build -q --release -p ping-dataplane --bins
	cargo run -q --release -p ping-bench

.PHONY: parts-up
parts-up: install-build install-parts ## Postgres, Kafka and Redis to play with; prints their addresses as environment lines
	@cargo run -q -p ping-testbed --bin testbed -- up

.PHONY: parts-down
parts-down: ## Stops them
	@cargo run -q -p ping-testbed --bin testbed -- down

.PHONY: control-plane-up
control-plane-up: install-build install-control-plane ## A real Kubernetes API server with all CRDs; prints the line with KUBECONFIG and PATH
	@cargo run -q -p ping-testbed --bin control-plane -- up

.PHONY: control-plane-down
control-plane-down: ## Stops it
	@cargo run -q -p ping-testbed --bin control-plane -- down

.PHONY: images
images: install-build install-images ## The two images as archives in target/images, with sizes and lists of their parts; minutes
	images/build.sh

.PHONY: cluster-up
cluster-up: install-build install-cluster ## A real cluster with our images: two nodes, CloudNativePG, stand-ins for the others; needs root; prints the KUBECONFIG line
	@images/build.sh --debug >&2
	@target/debug/cluster up target/images/*.tar

.PHONY: cluster-down
cluster-down: ## Ends it and undoes all that it did to the machine
	@target/debug/cluster down

.PHONY: e2e
e2e: install-build install-cluster ## On a real cluster: install, apply, ping, kill, drain, upgrade, delete; a table of faults; needs root
	images/build.sh --debug
	trap 'target/debug/cluster down' EXIT; cargo test -q --workspace --test e2e -- --ignored --nocapture

.PHONY: e2e-short
e2e-short: export FAULTS = drills,every server pod killed,Postgres primary
e2e-short: e2e ## The same with two of the faults and the drills: what .ci/run runs

.PHONY: operator-run
operator-run: install-build ## Runs the operator against $$KUBECONFIG (ARGS='--namespace demo' to watch one namespace)
	PING_ADMIN_LISTEN=$${PING_ADMIN_LISTEN:-127.0.0.1:8083} cargo run -q --bin ping-operator -- run $(ARGS)

.PHONY: fake-operators
fake-operators: install-build ## Simulates the other operators and kubelets: writes their status fields; no pods run
	cargo run -q -p ping-testbed --bin control-plane -- fake-operators

.PHONY: install-build install-parts install-bench install-images install-control-plane install-cluster
install-build install-parts install-bench install-images:
	@testbed/install.sh $(@:install-%=%)

install-control-plane:
	@testbed/control-plane/install.sh >&2

install-cluster: install-control-plane
	@testbed/control-plane/install.sh nodes coredns cnpg containers
