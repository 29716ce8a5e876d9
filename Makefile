# `make test` runs everything, `make demo` shows it; both do their own set-up.
.PHONY: setup test demo

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
