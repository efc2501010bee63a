#!/usr/bin/env bash
# Runs a command with a Docker daemon: docker.sh COMMAND...
# Where none answers, Debian's is installed and started, and stopped again afterwards.
set -euo pipefail
if ! docker info >/dev/null 2>&1; then
  if ! command -v dockerd >/dev/null; then
    apt-get update -qq
    DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends docker.io debootstrap >/dev/null
  fi
  log=$(mktemp)
  setsid dockerd --default-ulimit nofile=20000:20000 >"$log" 2>&1 &
  daemon=$!
  trap 'kill "$daemon" && wait "$daemon" || true' EXIT
  for _ in $(seq 60); do
    docker info >/dev/null 2>&1 && break
    kill -0 "$daemon" || { tail -n 20 "$log" >&2; exit 1; }
    sleep 1
  done
fi
"$@"
