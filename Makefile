# `make` alone lists the targets. Each says what it does while it does it, may be run again, and cleans up after itself.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
MAKEFLAGS += --no-print-directory

.PHONY: help run demo test test-e2e bench fuzz lint generate image cluster-up cluster-down clean

help: ## This list
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## /{printf "  \033[1m%-14s\033[0m %s\n", $$1, $$2}' $(MAKEFILE_LIST)

run: ## Weir without a cluster and without root, with a little traffic and an alert (ARGS="--seconds 30" to end by itself)
	@hack/run $(ARGS)

demo: ## A cluster, the operator, example objects, a chatty workload, and its live log
	@hack/demo

test: ## Everything, on a fresh Debian machine with nothing but Rust
	@hack/test

test-e2e: ## Only the end-to-end tests (ARGS="-E 'test(name)'" to choose)
	@hack/test e2e $(ARGS)

bench: ## The figures of the README, beside curl on the same cluster (ARGS="--only log" to choose)
	@cargo bench --locked --bench core
	@cargo bench --locked --bench uploads
	@hack/bench $(ARGS)

fuzz: ## Build the fuzz targets and run their seeds (ARGS="exposition 600" to fuzz one for ten minutes)
	@hack/fuzz $(ARGS)

lint: ## Format, shellcheck, clippy, cargo deny
	@hack/lint

generate: ## Write the CRDs, their reference, and the manifests that are made from the chart
	@hack/generate

image: ## The image from a release build, in the cluster if one is up
	@cargo build --release --locked --bin weir
	@hack/image weir --binary "$${CARGO_TARGET_DIR:-target}/release/weir" $$(hack/cluster is-up && echo --load)

cluster-up: ## A real Kubernetes for tests and demo (an existing KUBECONFIG wins)
	@hack/cluster up

cluster-down: ## Stop it, and remove its state
	@hack/cluster down

clean: cluster-down ## The cluster, and what was built here (caches are kept: rm -r ~/.cache/weir)
	@cargo clean
