#!/usr/bin/env bash
# Makes a base image from Debian's packages, where no registry is reachable: base.sh [NAME]
# Needs root, debootstrap and Docker.
set -euo pipefail
name=${1:-localhost/boothline-base:bookworm}
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
debootstrap --variant=minbase --include=python3,python3-venv,ca-certificates bookworm "$folder/root" \
  ${DEBIAN_MIRROR:+"$DEBIAN_MIRROR"} >"$folder/log" 2>&1 || { tail -n 20 "$folder/log" >&2; exit 1; }
# What an image never needs; the machine's own apt and proxy settings are not copied.
rm -rf "$folder"/root/var/cache/apt/* "$folder"/root/var/lib/apt/lists/* "$folder"/root/usr/share/{doc,man,locale,info}/* \
  "$folder"/root/var/log/* "$folder"/root/usr/lib/*-linux-gnu/gconv "$folder"/root/etc/apt/sources.list* "$folder"/root/etc/apt/apt.conf.d/*proxy*
tar -C "$folder/root" -c . | ${DOCKER:-docker} import --change 'CMD ["python3"]' - "$name" >&2
echo "$name"
