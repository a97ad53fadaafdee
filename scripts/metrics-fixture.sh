#!/usr/bin/env bash
# Records crates/metrics/tests/fixtures/sklearn.json, the values of scikit-learn with which the tests of
# `metrics` compare. Needs Python 3.11 or newer and access to PyPI; the tests themselves need only the
# recorded file.
set -euo pipefail
cd "$(dirname "$0")/.."

environment=$(mktemp -d)
trap 'rm -rf "$environment"' EXIT
python3 -m venv "$environment"
"$environment/bin/pip" install --quiet --disable-pip-version-check \
    numpy==2.4.6 scipy==1.17.1 scikit-learn==1.9.1
"$environment/bin/python" scripts/metrics-fixture.py crates/metrics/tests/fixtures/sklearn.json
