# make help lists the targets. Variables that may be set: VERSION, GOARCH, CC (for another GOARCH), DIST (where results go),
# FUZZTIME, KEEP and RECORD; RELEASE and VM for machine-shell and test-chaos; SEED, DURATION, STEPS and KINDS for test-chaos.

VERSION ?= 0.1.0
DIST    ?= dist
GOARCH  ?= $(shell go env GOARCH 2>/dev/null)

# The newest commit's time, or that of the changelog where there is no git: the same source makes the same bytes.
SOURCE_DATE_EPOCH ?= $(or $(shell git log -1 --format=%ct 2>/dev/null),$(shell stat -c %Y CHANGELOG.md))
export SOURCE_DATE_EPOCH

GO_NEEDED := $(shell sed -n 's/^go \([0-9]*\.[0-9]*\).*/\1/p' go.mod)

DEB   := $(DIST)/pool-managerd_$(VERSION)_$(GOARCH).deb
BIN   := $(DIST)/bin/$(GOARCH)
STAGE := $(DIST)/stage/$(GOARCH)
TOOLS := $(DIST)/tools
NEWEST := $(DIST)/etcd

# stdjson: gguf-parser-go leaves out json-iterator, whose way to call methods by name makes the linker keep every exported
# method of the whole program (docs/dependencies.md).
PROGRAMS := ./cmd/pool-managerd ./cmd/poolctl ./cmd/pool-gate ./cmd/pool-fetch ./cmd/pool-fleet
GO_BUILD := CGO_ENABLED=0 GOOS=linux GOARCH=$(GOARCH) go build -tags stdjson -trimpath -buildvcs=false -ldflags '-s -w -X main.version=$(VERSION)'

# pool-gpu alone is linked with C, for NVIDIA's library, which it opens when it runs. Some 400 of the library's symbols stay undefined in
# it: bound at the start (-z now) instead of at the first call (-z lazy), it could not even print its version where no driver is.
GPU := $(BIN)/pool-gpu
GPU_BUILD = CGO_ENABLED=1 GOOS=linux GOARCH=$(GOARCH) CC=$(GPU_CC) go build -trimpath -buildvcs=false -buildmode=pie \
	-ldflags '-s -w -X main.version=$(VERSION) -linkmode=external -extldflags "-Wl,-z,relro -Wl,-z,lazy"'

# The compiler for GOARCH, by the name that Debian gives a cross compiler. CC on the command line or in the environment wins.
GNU_amd64 := x86_64-linux-gnu
GNU_arm64 := aarch64-linux-gnu
GPU_CC = $(if $(filter-out default,$(origin CC)),$(CC),$(if $(filter $(GOARCH),$(shell go env GOHOSTARCH)),$(shell go env CC),$(or $(GNU_$(GOARCH)),$(GOARCH)-linux-gnu)-gcc))

# The newest version of glibc that pool-gpu asks for, which the packages then depend on.
GLIBC = $(shell readelf --version-info --wide $(GPU) | grep -o 'GLIBC_[0-9.]*' | sort -uV | tail -n 1 | cut -d_ -f2)

# go-nvml wraps every call, also those that NVIDIA's header calls deprecated, and gcc would tell of each.
export CGO_CFLAGS ?= -O2 -g -Wno-deprecated-declarations

MAN := $(wildcard docs/man/*.[1-8])

# What `make test` installs where it is missing: for the machines, and a C compiler for pool-gpu and the race detector.
HOST_PACKAGES = $(shell cat test/machine/host-packages.txt) gcc libc6-dev

MAKEFLAGS += --no-print-directory
.DELETE_ON_ERROR:
.DEFAULT_GOAL := help
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c

.PHONY: help
help: ## Explain every target
	@sed -n 's/^\([a-z][a-z-]*\):[^#]*## \(.*\)/  \1|\2/p' $(MAKEFILE_LIST) | awk -F'|' '{ printf "%-18s %s\n", $$1, $$2 }'

##
## Building
##

.PHONY: build
build: need-go need-cc ## The six programs into dist/bin: five static, and pool-gpu, which links libc
	@mkdir -p $(BIN)
	$(GO_BUILD) -o $(BIN)/ $(PROGRAMS)
	$(GPU_BUILD) -o $(GPU) ./cmd/pool-gpu
	@bound=$$(readelf --dynamic --wide $(GPU)); bound=$$(grep -E 'BIND_NOW|Flags:.*\bNOW\b' <<<"$$bound") || exit 0; \
	echo "pool-gpu would bind at its start, and die wherever no NVIDIA driver is:"; echo "$$bound"; exit 1

.PHONY: stage
stage: build ## Everything a package holds, as it lies in a file system, into dist/stage
	@rm -rf $(STAGE)
	packaging/stage $(BIN) $(STAGE) $(VERSION)

.PHONY: deb
deb: stage $(TOOLS)/nfpm ## The Debian package: dist/pool-managerd_VERSION_ARCH.deb
	@STAGE=$(STAGE) VERSION=$(VERSION) GOARCH=$(GOARCH) GLIBC=$(GLIBC) $(TOOLS)/nfpm package -f packaging/nfpm.yaml -p deb -t $(DEB)

.PHONY: rpm
rpm: stage $(TOOLS)/nfpm ## The same as an RPM package
	@STAGE=$(STAGE) VERSION=$(VERSION) GOARCH=$(GOARCH) GLIBC=$(GLIBC) $(TOOLS)/nfpm package -f packaging/nfpm.yaml -p rpm -t $(DIST)/

.PHONY: repo
repo: deb ## A repository for apt in dist/repo with the Debian package (REPO_KEY=ID: signed with that key of gpg)
	packaging/repo $(DIST)/repo $(DEB)
	@echo "deb $(if $(REPO_KEY),[signed-by=$(abspath $(DIST))/repo/key.asc],[trusted=yes]) file:$(abspath $(DIST))/repo ./"

# All tools of packaging/tools/go.mod in the versions that it pins.
$(TOOLS)/nfpm $(TOOLS)/staticcheck $(TOOLS)/govulncheck $(TOOLS)/deadcode $(TOOLS)/gotestsum &: packaging/tools/go.mod packaging/tools/go.sum | need-go
	@mkdir -p $(TOOLS)
	GOARCH= go -C packaging/tools build -o $(abspath $(TOOLS))/ tool
	@touch $(TOOLS)/*

.PHONY: clean
clean: ## Remove dist; machines and Go's caches stay
	rm -rf $(DIST)

##
## Checking
##

.PHONY: check
check: lint unit ## Lint and unit tests: what needs no root and no machine

.PHONY: lint
lint: need-go $(TOOLS)/staticcheck $(TOOLS)/govulncheck $(TOOLS)/deadcode ## gofmt, go vet, staticcheck, deadcode, govulncheck, shell syntax, manual pages
	@unformatted=$$(gofmt -l $(wildcard cmd units systemd cgroups nvml registry packaging test)); \
	if [ -n "$$unformatted" ]; then echo "gofmt would change:"; echo "$$unformatted"; exit 1; fi
	go vet ./...
	go vet -tags machine,gpu,engines,web,apifuzz ./...
	$(TOOLS)/staticcheck -tags machine,gpu,engines,web,apifuzz ./...
	@# The tables of registry/catalogue are what its tests write the journal's catalogue and the reference of the log from.
	@unreachable=$$($(TOOLS)/deadcode $(PROGRAMS) ./cmd/pool-gpu | sed '\,^registry/catalogue/,d'); \
	if [ -n "$$unreachable" ]; then echo "no program calls, though tests may:"; echo "$$unreachable"; exit 1; fi
	@for script in .ci/run test/gpu/run packaging/stage packaging/third-party-licenses packaging/repo packaging/scripts/* packaging/systemd/*-generator; do sh -n $$script; done
	@! command -v mandoc >/dev/null || mandoc -Tlint -W warning $(MAN)
	@status=0; $(TOOLS)/govulncheck ./... >$(DIST)/govulncheck.out 2>&1 || status=$$?; \
	case $$status in \
	0) echo "govulncheck: nothing known" ;; \
	3) cat $(DIST)/govulncheck.out; exit 1 ;; \
	*) echo "govulncheck: skipped, its database cannot be reached from here" ;; \
	esac

# A test that fails runs once more, alone. One that passes then has not failed the run, and is listed in dist/flaky.txt and at the end:
# it is a fault of the test or of the product, to be found. More than ten failures (a test and its parts count each), or a data race, are no
# accident.
#
# How long each test took is in dist/unit.json and dist/integration.json; the twenty slowest are printed at the end.
TIMES = $(DIST)/$@.json
TESTS = rm -f $(DIST)/flaky.txt; mkdir -p $(DIST); $(TOOLS)/gotestsum --format standard-quiet --hide-summary skipped --rerun-fails=1 \
	--rerun-fails-run-root-test --rerun-fails-max-failures 10 --rerun-fails-abort-on-data-race --rerun-fails-report $(DIST)/flaky.txt \
	--jsonfile-timing-events $(TIMES)
SLOW = @echo "the twenty slowest tests:"; $(TOOLS)/gotestsum tool slowest --jsonfile $(TIMES) --num 20
FLAKY = @! test -s $(DIST)/flaky.txt || { echo "these tests failed at first, and passed when they ran alone:"; cat $(DIST)/flaky.txt; }

.PHONY: unit
unit: need-go need-cc $(TOOLS)/gotestsum ## Unit tests, with the race detector
	$(TESTS) --packages ./... -- -race
	$(SLOW)
	$(FLAKY)

# What tests ask for that are skipped without it: a terminal, the shells that complete, and what reads manual pages.
test: HOST_PACKAGES += tmux zsh fish groff-base mandoc etcd-server etcd-client iproute2 strace

.PHONY: test
test: need-root need-go host-packages lint unit integration ## All tests: lint, unit tests, and the integration tests in the machines

.PHONY: integration
integration: need-root need-go host-packages deb $(TOOLS)/gotestsum ## Only the integration tests, inside machines with a real systemd
	export POOL_MANAGERD_DEB=$(abspath $(DEB)); $(TESTS) --packages ./test/... -- -tags machine -p 1 -parallel 4 -count 1 -timeout 75m
	$(SLOW)
	$(FLAKY)

.PHONY: test-engines
test-engines: need-root need-go host-packages deb ## Real vLLM and Triton from PyPI, installed once (6 GB), through the package in a machine (ONLY=REGEXP)
	POOL_MANAGERD_DEB=$(abspath $(DEB)) nice go test -tags machine,engines -count 1 -timeout 90m -v -run '^TestInstalled$(ONLY)' ./test/e2e

.PHONY: test-web
test-web: need-root need-go ## The web page in a real browser, Debian's headless Chromium, which is installed (PICTURES=DIR: write those of docs/web.md)
	@command -v chromium-headless-shell >/dev/null || { apt-get update -qq && \
		DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends chromium-headless-shell fonts-dejavu-core >/dev/null; }
	go test -tags web -count 1 -timeout 15m -v ./test/web $(if $(PICTURES),-args -pictures $(abspath $(PICTURES)) -minutes 12)

SCHEMATHESIS := $(DIST)/schemathesis

$(SCHEMATHESIS)/bin/schemathesis: registry/api/testdata/schemathesis.txt
	@command -v python3 >/dev/null || { echo "make test-api-fuzz needs python3 with venv: apt-get install python3-venv"; exit 1; }
	python3 -m venv $(SCHEMATHESIS)
	$(SCHEMATHESIS)/bin/pip install --quiet --disable-pip-version-check -r $<
	@touch $@

.PHONY: test-api-fuzz
test-api-fuzz: $(SCHEMATHESIS)/bin/schemathesis | need-go ## Requests made up from the served description, by schemathesis from PyPI (LIMIT=120 seconds, SEED)
	SCHEMATHESIS=$(abspath $<) SCHEMATHESIS_ARGS='--max-time $(or $(LIMIT),120) $(if $(SEED),--seed $(SEED))' \
	go test -tags apifuzz -count 1 -timeout 30m -v -run '^TestSchemathesis$$' ./registry/api

.PHONY: test-gpu
test-gpu: build ## The tests on the GPUs of this host, through the real driver; where there is none, each says so and is skipped
	POOL_GPU=$(abspath $(GPU)) go test -tags gpu -count 1 -timeout 5m -v ./test/gpu

BUNDLE := $(DIST)/gpu-bundle-$(VERSION)-$(GOARCH).tar.xz

.PHONY: gpu-bundle
gpu-bundle: need-root host-packages stage ## An archive that tries all this on a host with a GPU: dist/gpu-bundle-VERSION-ARCH.tar.xz, and in it ./run
	go run ./test/cmd/gpubundle --stage $(STAGE) --out $(BUNDLE)

.PHONY: test-chaos
test-chaos: need-root need-go host-packages deb ## Random faults in a machine of 20 pools (DURATION=25m, SEED, STEPS, KINDS, RELEASE, VM=1)
	POOL_MANAGERD_DEB=$(abspath $(DEB)) CHAOS_SEED=$(or $(SEED),random) CHAOS_DURATION=$(or $(DURATION),25m) CHAOS_STEPS='$(STEPS)' CHAOS_KINDS='$(KINDS)' \
	CHAOS_RELEASE=$(RELEASE) CHAOS_VM=$(VM) go test -tags machine -count 1 -timeout 0 -v -run TestChaos ./test/chaos

# The newest etcd, in the version that its own go.mod pins.
$(NEWEST)/etcd: test/etcd/newest/go.mod test/etcd/newest/go.sum | need-go
	@mkdir -p $(NEWEST)
	GOARCH= CGO_ENABLED=0 go -C test/etcd/newest build -o $(abspath $(NEWEST))/etcdctl go.etcd.io/etcd/etcdctl/v3
	GOARCH= CGO_ENABLED=0 go -C test/etcd/newest build -o $(abspath $(NEWEST))/etcd go.etcd.io/etcd/server/v3

FLEET_TEST = FLEET_FAULTS=$(or $(DURATION),10m) FLEET_SEED=$(SEED) go test -count 1 -timeout 0

.PHONY: test-fleet
test-fleet: test-fleet-host test-fleet-newest ## Random faults of hosts and members of a real etcd, this host's and the newest; as root also cut networks (DURATION=10m, SEED)

.PHONY: test-fleet-host
test-fleet-host: need-go
	$(FLEET_TEST) -v -run TestAtRandom ./registry/fleet/etcd

.PHONY: test-fleet-newest
test-fleet-newest: $(NEWEST)/etcd ## The tests that need an etcd, and random faults, with the newest etcd alone (DURATION=10m, SEED)
	PATH="$(abspath $(NEWEST)):$$PATH" go test -count 1 -skip TestAtRandom ./registry/fleet/etcd ./cmd/pool-fleet
	PATH="$(abspath $(NEWEST)):$$PATH" $(FLEET_TEST) -v -run TestAtRandom ./registry/fleet/etcd

.PHONY: sandbox-table
sandbox-table: need-root need-go host-packages ## What PyTorch, node and others need of the sandbox, each relaxation tried (ONLY=REGEXP)
	go test -tags machine -count 1 -timeout 90m -v -run TestTable ./test/sandbox -args -whole -only '$(ONLY)'

.PHONY: generate
generate: need-go ## The client of the API again, from docs/openapi.yaml
	go generate ./registry/client

.PHONY: fuzz
fuzz: need-go ## Each fuzz target for a while (FUZZTIME=10s), and how many inputs it tried (MANY=N: so many unguided ones; KEEP=16: so many are kept; ONLY=REGEXP; RECORD=1: counted)
	go run ./test/cmd/fuzz -time $(or $(FUZZTIME),10s) -many $(or $(MANY),0) -keep $(or $(KEEP),0) -run '$(ONLY)' $(if $(RECORD),-record docs/reference/fuzz.md)

.PHONY: bench
bench: need-root need-go host-packages deb ## The benchmarks, in a container machine: a table of figures
	POOL_MANAGERD_DEB=$(abspath $(DEB)) go test -tags machine -p 1 -count 1 -timeout 60m -run '^$$' -bench . -benchtime 1x ./test/bench/...

##
## Trying
##

.PHONY: demo
demo: need-root need-go host-packages deb ## A machine with a real llama-server on a tiny model; the API stays until Ctrl-C (DEMO_EXIT=1: until done)
	POOL_MANAGERD_DEB=$(abspath $(DEB)) go run ./test/cmd/demo

demo-fleet: HOST_PACKAGES += etcd-server

.PHONY: demo-fleet
demo-fleet: need-root need-go host-packages deb ## Three machines that publish in one etcd; one loses its power, another one its network (DEMO_EXIT=1: until done)
	POOL_MANAGERD_DEB=$(abspath $(DEB)) go run ./test/cmd/demo fleet

.PHONY: machine-shell
machine-shell: need-root need-go host-packages deb ## A shell in a test machine, the package in /root (RELEASE=bookworm, trixie, forky; VM=1)
	go run ./test/cmd/machine shell -release $(or $(RELEASE),forky) $(if $(VM),-vm) -file /root/pool-managerd.deb=$(DEB)

.PHONY: lint-package
lint-package: deb rpm ## lintian and rpmlint on the packages, where they are installed
	@command -v lintian >/dev/null || { echo "make $@ needs lintian: apt-get install lintian"; exit 1; }
	@command -v rpmlint >/dev/null || { echo "make $@ needs rpmlint: apt-get install rpmlint"; exit 1; }
	lintian --fail-on error,warning --tag-display-limit 0 --allow-root $(DEB)
	rpmlint --strict --config packaging/doc/rpmlint.toml $(DIST)/*.rpm

##
## What the targets above need; each says in one line what is missing
##

.PHONY: need-go
need-go:
	@command -v go >/dev/null || { echo "Go $(GO_NEEDED) or newer is needed, and there is none on PATH: https://go.dev/dl"; exit 1; }
	@have=$$(go env GOVERSION | sed 's/^go//'); \
	printf '%s\n' "$(GO_NEEDED)" "$$have" | sort -VC || { echo "Go $(GO_NEEDED) or newer is needed; this is $$have: https://go.dev/dl"; exit 1; }

.PHONY: need-cc
need-cc: need-go
	@command -v $(firstword $(GPU_CC)) >/dev/null || { echo "pool-gpu for $(GOARCH) needs a C compiler, $(firstword $(GPU_CC)): apt-get install" \
		"$(if $(filter $(GOARCH),$(shell go env GOHOSTARCH)),gcc libc6-dev,gcc-$(subst _,-,$(GNU_$(GOARCH))) libc6-dev-$(GOARCH)-cross)"; exit 1; }
	@command -v $$(go env CC) >/dev/null || { echo "The race detector needs a C compiler: apt-get install gcc libc6-dev"; exit 1; }

.PHONY: need-root
need-root:
	@[ "$$(id -u)" = 0 ] || { echo "This boots machines, which only root may: sudo make $(MAKECMDGOALS)"; exit 1; }

.PHONY: host-packages
host-packages: need-root
	@missing=$$(for p in $(HOST_PACKAGES); do \
		dpkg-query -W -f '$${db:Status-Status}' "$$p" 2>/dev/null | grep -qx installed || echo "$$p"; done); \
	[ -n "$$missing" ] || exit 0; \
	command -v apt-get >/dev/null || { echo "Missing, and no apt-get to install them:" $$missing; exit 1; }; \
	echo "Installing" $$missing; \
	apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $$missing >/dev/null
