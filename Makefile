# Three commands do everything on a machine with a Rust toolchain, Python 3 and the package
# registries: `make demo`, `make test` and `make bench`. What they need they install into .venvs and target.

TARGET      := $(abspath $(or $(CARGO_TARGET_DIR),target))
BIN_DEV     := $(TARGET)/debug/milvus-handoff
BIN_RELEASE := $(TARGET)/release/milvus-handoff
CHECK       := .venvs/check/bin

.PHONY: build demo test bench unit live lint soak fuzz fmt venvs clean wheel licences sbom

build:
	cargo build --release

demo: build
	tests/live/venvs.sh demo
	MILVUS_HANDOFF_BIN="$(BIN_RELEASE)" demo/run.sh

# What the tool costs, as ratios within one run; writes docs/performance.md and its plot.
# `make bench ONLY=verify` runs one section (export, import, bulk, client, verify, memory, growth) and only prints;
# `make bench QUICK=1` is small, shows that it works, and only prints.
bench: venvs
	cargo build --release --bins --example bench-wire
	$(CHECK)/python bench/run.py --tool "$(BIN_RELEASE)" --wire "$(TARGET)/release/examples/bench-wire" \
	  --work "$(TARGET)" $(if $(QUICK),--quick) $(if $(ONLY),--only "$(ONLY)") $(if $(QUICK)$(ONLY),,--report docs)

test: lint unit live

lint:
	cargo fmt --check
	cargo clippy --all-targets --quiet -- -D warnings

# Rust: units, properties, formats, damage, a real S3 server.
unit: venvs
	MILVUS_HANDOFF_TEST_MOTO="$(CURDIR)/$(CHECK)/moto_server" cargo test --quiet

# The tests with seeds, for thirty times as many: kills, races, faults of the bucket; and imports killed at every
# request and a thousand times at random on real servers. Some hours.
soak: venvs
	MILVUS_HANDOFF_TEST_ROUNDS=30 cargo test --test kills --test faulty_bucket --test shards -- --nocapture
	cargo build --quiet
	SOAK=1 MILVUS_HANDOFF_BIN="$(BIN_DEV)" $(CHECK)/python -m pytest tests/live/test_resume.py tests/live/test_kills.py tests/live/test_network.py tests/live/test_bulk.py tests/live/test_bulk_crash.py -n 2 --dist load --timeout 7200

# The tests with mutations of the kept corpus, for a hundred times as many.
fuzz:
	MILVUS_HANDOFF_TEST_ROUNDS=100 cargo test --test fuzz -- --nocapture

# Whole transfers between real servers.
live: venvs
	cargo build --quiet --bins --example bench-wire
	MILVUS_HANDOFF_BIN="$(BIN_DEV)" $(CHECK)/python -m pytest tests/live -n 4 --dist loadfile

venvs:
	tests/live/venvs.sh

# A Python wheel that carries the release binary, in target/wheels.
wheel: venvs
	$(CHECK)/maturin build --release --locked --out "$(TARGET)/wheels"

# What the binary is made of, as CycloneDX; the same Cargo.lock gives the same bytes.
sbom:
	mkdir -p "$(TARGET)"
	packaging/sbom.py > "$(TARGET)/milvus-handoff.cdx.json"

# Licences and sources of what is linked, with cargo-deny, which is installed into .tools the first time.
licences:
	[ -x .tools/bin/cargo-deny ] || cargo install --locked --root .tools cargo-deny
	.tools/bin/cargo-deny check licenses bans sources

fmt:
	cargo fmt

clean:
	rm -rf target .venvs .demo .tools
