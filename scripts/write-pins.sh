#!/usr/bin/env bash
# Write constraints.txt from what is installed beside the given Python: names and versions, nothing of where they came from.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

python=${1:-.venv/bin/python}
pins=$(mktemp)
trap 'rm -f "$pins"' EXIT

{
  echo "# Exact versions for Python 3.11 of all that pyproject.toml asks for, extras included. Written by: make pins"
  # A version's local part (torch's +cpu, +cu130) names one build; without it the pin suits any machine.
  "$python" -m pip --disable-pip-version-check list --format=freeze --exclude-editable --exclude pip 2>/dev/null |
    sed 's/+.*$//'
} >"$pins"
cat "$pins" >constraints.txt
echo "constraints.txt: $(grep -c == constraints.txt) packages"
