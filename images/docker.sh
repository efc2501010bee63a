#!/usr/bin/env bash
# Runs a command with a Docker daemon: docker.sh COMMAND...
# Where none answers, Debian's is installed and started, and stopped again afterwards. Exit code 69:
# no daemon can run on this machine; its log was printed.
set -euo pipefail
unavailable=69

answers() { docker info >/dev/null 2>&1; }

start() {  # FLAGS...: starts dockerd, waits until it answers or ends
  setsid dockerd --default-ulimit nofile=20000:20000 "$@" >"$log" 2>&1 &
  daemon=$!
  for _ in $(seq 60); do
    answers && return
    kill -0 "$daemon" 2>/dev/null || return 1
    sleep 1
  done
  stop
  return 1
}

stop() {
  kill "$daemon" 2>/dev/null && wait "$daemon" || true
}

if ! answers && ! command -v dockerd >/dev/null; then
  echo "installing Docker ..." >&2
  apt-get update -qq
  DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends docker.io iptables >/dev/null
  # Where services are managed, the package starts its own.
  for _ in $(seq 10); do [ -d /run/systemd/system ] && ! answers && sleep 1; done || true
fi
if ! answers; then
  log=$(mktemp)
  trap stop EXIT
  # Machines that are containers themselves may know no overlay file system, or allow no firewall rules.
  for flags in "" "--storage-driver=vfs" "--iptables=false --ip6tables=false --bridge=none" \
    "--storage-driver=vfs --iptables=false --ip6tables=false --bridge=none"; do
    # shellcheck disable=SC2086  # several flags
    start $flags && break
    echo "dockerd $flags does not run:" >&2
    tail -n 10 "$log" >&2
  done
  answers || exit $unavailable
fi
"$@"
