#!/bin/bash
# All tests, in two runs beside each other: most integration tests wait for a house that lives at the speed of life, and
# meanwhile a core computes all others. The output of the second run comes when the first has ended.
#
#     tests/run-all.sh PYTHON
set -euo pipefail
python=$1
cd "$(dirname "$0")/.."
output=$(mktemp)
trap 'rm -f "$output"' EXIT
status=0

# these start house after house and hear nothing, so they need not be alone with their sound
starting=(tests/integration/test_{house_killed,house_repeats,service_install,service_lifecycle}.py)

OMP_NUM_THREADS=1 "$python" -m pytest -p no:cacheprovider tests/contract tests/golden tests/unit "${starting[@]}" \
  >"$output" 2>&1 &
second=$!
"$python" -m pytest tests/integration "${starting[@]/#/--ignore=}" || status=$?
echo
echo "The tests that were run meanwhile:"
wait "$second" || status=$?
cat "$output"
exit "$status"
