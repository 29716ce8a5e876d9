# `make test` runs everything, `make demo` shows it, `make bench` measures it; each does its own set-up.
.PHONY: setup test demo bench

setup:
	@.ci/setup

test: setup
	cargo fmt --check
	cargo clippy --locked --all-targets -- -D warnings
	cargo test --locked
	@if cargo deny --version >/dev/null 2>&1; then cargo deny --offline check bans licenses sources; \
	else echo "cargo-deny isn't installed: licences, bans and sources were not checked"; fi

# ONCE=1: leave after the tour instead of staying up.
demo: setup
	cargo build --locked --release
	@ONCE=$(ONCE) node --no-warnings demo/demo.mjs

# QUICK=1: short turns, docs/benchmarks.md is left alone. TURNS, SECONDS_EACH: 5 and 4.
# ONLY='row/(nginx|sluice)$': only these rows. PROGRAMS: a folder with sluice, limit and bare, which aren't built then.
bench: setup
	@PATH="$$PATH:$$HOME/.cargo/bin" oha --version >/dev/null 2>&1 || \
	{ echo "oha isn't there. Install it with: cargo install oha --locked" >&2; exit 1; }
	@command -v wrk >/dev/null 2>&1 || \
	{ echo "wrk isn't there. Install it, on Debian with: sudo apt-get install wrk" >&2; exit 1; }
	@QUICK='$(QUICK)' TURNS='$(TURNS)' SECONDS_EACH='$(SECONDS_EACH)' ONLY='$(value ONLY)' PROGRAMS='$(PROGRAMS)' \
	node --no-warnings bench/bench.mjs
