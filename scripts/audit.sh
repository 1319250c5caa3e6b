#!/usr/bin/env bash
# Look the pinned packages up in the databases of known vulnerabilities. pip-audit is used once and not kept: it runs in an
# environment of its own, so that nothing of it ends up among the pins.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

python=${1:-.venv/bin/python}
place=$(mktemp -d)
trap 'rm -rf "$place"' EXIT

unreachable() {
  echo "Nothing was checked: $1 could not be reached. Try again with a connection to the Python package index." >&2
  exit 2
}

"$python" -m venv "$place/env"
"$place/env/bin/python" -m pip --disable-pip-version-check --quiet install pip-audit 2>"$place/said" ||
  unreachable "the package index"
"$place/env/bin/pip-audit" --requirement constraints.txt --no-deps --disable-pip --progress-spinner off 2>"$place/said" && exit 0
if grep -qiE "connection|timed? ?out|resolve|HTTPError|ServiceError|Max retries" "$place/said"; then
  unreachable "the database of vulnerabilities"
fi
cat "$place/said" >&2
exit 1
