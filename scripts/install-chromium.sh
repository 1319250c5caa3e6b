#!/usr/bin/env bash
# See that a browser is there for the tests marked `browser`; where none can be installed, say so and go on.
set -euo pipefail

for name in google-chrome chromium chromium-browser "/Applications/Google Chrome.app/Contents/MacOS/Google Chrome"; do
  if command -v "$name" >/dev/null; then exit 0; fi
done

if command -v apt-get >/dev/null && [ "$(id -u)" -eq 0 ]; then
  echo "Installing Chromium for the browser tests ..."
  export DEBIAN_FRONTEND=noninteractive
  if apt-get -qq update && apt-get -qq install -y --no-install-recommends chromium fonts-dejavu-core >/dev/null; then
    exit 0
  fi
fi
echo "No Chromium or Chrome was found or could be installed: the tests marked 'browser' will be skipped."
