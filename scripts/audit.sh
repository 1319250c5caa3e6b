#!/usr/bin/env bash
# Look the pinned packages up in the database of known vulnerabilities of the Python package index. pip-audit is used once
# and not kept: it runs in an environment of its own, so that nothing of it ends up among the pins.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

python=${1:-.venv/bin/python}
place=$(mktemp -d)
trap 'rm -rf "$place"' EXIT

nothing_checked() {
  echo "Nothing was checked: $1. Try again with a connection to the Python package index (https://pypi.org)." >&2
  exit 2
}

"$python" -m venv "$place/env"
"$place/env/bin/python" -m pip --disable-pip-version-check --quiet install pip-audit 2>/dev/null ||
  nothing_checked "pip-audit could not be installed"
status=0
"$place/env/bin/pip-audit" --requirement constraints.txt --no-deps --disable-pip --progress-spinner off \
  >"$place/report" 2>"$place/said" || status=$?

pins=$(grep -c == constraints.txt)
unknown=$(grep -c "could not be audited" "$place/report" || true)
[ "$unknown" -lt "$pins" ] || nothing_checked "the database of vulnerabilities knows none of the $pins packages"
if [ "$status" -ne 0 ] && [ ! -s "$place/report" ]; then
  grep -qiE "connection|timed? ?out|resolve|HTTPError|ServiceError|retries" "$place/said" &&
    nothing_checked "the database of vulnerabilities could not be reached"
fi
cat "$place/report" "$place/said"
echo "$((pins - unknown)) of $pins packages were checked."
exit "$status"
