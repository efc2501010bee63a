#!/usr/bin/env bash
# Builds the images tools and torch from this checkout.
#   BASE      base image; images/base.sh makes one where no registry is reachable
#   IMAGES    which ones; "tools torch" by default
#   VARIANT   cpu or cuda: what the torch wheel that pip finds is (a label only)
#   DOCKER    docker, or a program that understands its options
#   BUILD     further options of `docker build`
# The wheels are gathered (or built, where a package ships none) with this machine's Python, whose
# version must be the base image's: 3.11. That uses this machine's pip configuration; the build gets
# the files: no index, proxy or credential is known inside, and none can end up in a layer.
set -euo pipefail
cd "$(dirname "$0")/.."
docker=${DOCKER:-docker}
python=.venv/bin/python
version=$($python -c 'import boothline; print(boothline.__version__)')
revision=$(git rev-parse --short HEAD 2>/dev/null || echo unknown)

for image in ${IMAGES:-tools torch}; do
  context=build/images/$image
  rm -rf "$context" && mkdir -p "$context/wheels"
  $python images/requirements.py "$image" "$context/requirements.txt"
  echo "gathering the wheels of boothline/$image ..."
  $python -m pip wheel --quiet --disable-pip-version-check --no-deps \
    --wheel-dir "$context/wheels" -r "$context/requirements.txt"
  $python -m pip wheel --quiet --disable-pip-version-check --no-deps --wheel-dir "$context/wheels" .
  echo "boothline==$version" >>"$context/requirements.txt"
  cp images/sbom.py "$context/"
  cp -r models "$context/models"
  find "$context/models" \( -name '*.png' -o -name '.*' \) -delete
  cp "images/$image/Containerfile" "$context/Containerfile"
  # shellcheck disable=SC2086  # BUILD holds several options
  DOCKER_BUILDKIT=${DOCKER_BUILDKIT:-0} $docker build ${BUILD:-} \
    ${BASE:+--build-arg "BASE=$BASE"} --build-arg "VERSION=$version" \
    --build-arg "REVISION=$revision" $([ "$image" = torch ] && echo "--build-arg VARIANT=${VARIANT:-cpu}") \
    --file "$context/Containerfile" --tag "boothline/$image:$version" "$context"
  rm -rf "$context"
  $docker image inspect --format '{{.Id}} {{.Size}} bytes' "boothline/$image:$version"
done
