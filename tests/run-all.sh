#!/bin/bash
# All tests, in two runs beside each other: most integration tests wait for a house that lives at the speed of life, and
# meanwhile a core computes all others. Their output comes when the first run has ended.
#
#     tests/run-all.sh PYTHON
set -euo pipefail
python=$1
cd "$(dirname "$0")/.."
output=$(mktemp)
trap 'rm -f "$output"' EXIT
status=0

OMP_NUM_THREADS=1 "$python" -m pytest -p no:cacheprovider tests/contract tests/golden tests/unit >"$output" 2>&1 &
computing=$!
"$python" -m pytest tests/integration || status=$?
echo
echo "tests/contract tests/golden tests/unit, run meanwhile:"
wait "$computing" || status=$?
cat "$output"
exit "$status"
