#!/usr/bin/env bash
# Prints a Python that can make Omni Watch's environment: 3.11 or newer, with venv and ensurepip. Debian 12's own 3.11 is
# tried first, since that is what the tests run on. Exits 1, saying what to install, when there is none.
set -euo pipefail

for name in python3.11 python3 python3.12 python3.13 python3.14; do
  found=$(command -v "$name") || continue
  if "$found" -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
    echo "$found"
    exit 0
  fi
done
echo "No Python 3.11 or newer with its venv module was found; on Debian: apt-get install python3 python3-venv" >&2
exit 1
