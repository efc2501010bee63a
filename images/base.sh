#!/usr/bin/env bash
# Makes a base image from Debian's packages, where no registry is reachable: base.sh [NAME]
# One of that name is left as it is. Needs root, debootstrap and Docker.
set -euo pipefail
name=${1:-localhost/boothline-base:bookworm}
docker=${DOCKER:-docker}
if ! $docker image inspect "$name" >/dev/null 2>&1; then
  if ! command -v debootstrap >/dev/null; then
    apt-get update -qq >&2
    DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends debootstrap >/dev/null
  fi
  folder=$(mktemp -d)
  trap 'rm -rf "$folder"' EXIT
  debootstrap --variant=minbase --include=python3,ca-certificates bookworm "$folder/root" \
    ${DEBIAN_MIRROR:+"$DEBIAN_MIRROR"} >"$folder/log" 2>&1 || { tail -n 20 "$folder/log" >&2; exit 1; }
  # What an image never needs; the machine's own apt and proxy settings are not copied.
  rm -rf "$folder"/root/var/cache/apt/* "$folder"/root/var/lib/apt/lists/* "$folder"/root/usr/share/{doc,man,locale,info}/* \
    "$folder"/root/var/log/* "$folder"/root/usr/lib/*-linux-gnu/gconv "$folder"/root/etc/apt/sources.list* "$folder"/root/etc/apt/apt.conf.d/*proxy*
  tar -C "$folder/root" -c . | $docker import --change 'CMD ["python3"]' - "$name" >&2
fi
echo "$name"
