#!/usr/bin/env bash
# Runs a command with a Docker daemon: docker.sh COMMAND...
# Where none answers, Debian's is installed and started, and stopped again afterwards. Exit code 69:
# no container can run on this machine; the daemon's log was printed.
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

runs() {  # whether a container runs, on nothing but this machine's own programs
  local probe=localhost/boothline-probe mounts=() folder
  for folder in /usr /bin /lib /lib64; do
    if [ -e "$folder" ]; then mounts+=(--volume "$(realpath "$folder"):$folder:ro"); fi
  done
  tar --create --files-from /dev/null | docker import - "$probe" >/dev/null \
    && docker run --rm --network=none "${mounts[@]}" "$probe" /bin/true
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
    if start $flags; then
      runs && break
      stop
    fi
    echo "no container runs with: dockerd $flags" >&2
    grep -Ev "level=(info|warning)" "$log" | tail -n 10 >&2 || tail -n 10 "$log" >&2
  done
  answers || exit $unavailable
fi
"$@"
