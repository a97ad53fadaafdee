#!/usr/bin/env bash
# Causes the faults of docs/reliability.md in PyTorch Lightning; see lightning-faults.py.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
exec "$here/venv-python.sh" lightning "lightning==2.6.6 torch==2.15.0 numpy==2.4.6" "$here/lightning-faults.py" "$@"
