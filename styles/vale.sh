#!/usr/bin/env bash
# Prints the path of Vale, and fetches or builds it first where it is missing: the program on the PATH;
# or one in .boothline-vale, built with Go from its source; or the one that its Python package downloads.
set -euo pipefail
cd "$(dirname "$0")/.."
folder=$PWD/.boothline-vale
version=v3.22.0

if command -v vale; then exit; fi
if [ ! -x "$folder/vale" ] && command -v go >/dev/null; then
  echo "building Vale $version; this takes minutes, once ..." >&2
  GOBIN=$folder go install "github.com/vale-cli/vale/v3/cmd/vale@$version" >&2 || true
fi
if [ ! -x "$folder/vale" ]; then
  echo "downloading Vale ..." >&2
  python3 -m venv "$folder/venv"
  "$folder/venv/bin/pip" install --quiet --disable-pip-version-check "vale==3.25.1.0" >&2
  "$folder/venv/bin/vale" --version >&2 || {
    echo "Vale can neither be built nor downloaded here: install Go 1.26 and gcc, or put vale on the PATH." >&2
    exit 1
  }
  ln -sf venv/bin/vale "$folder/vale"
fi
echo "$folder/vale"
