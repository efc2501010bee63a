#!/usr/bin/env bash
# Builds the images tools and torch from this checkout.
#   BASE      base image; images/base.sh makes one where no registry is reachable
#   IMAGES    which ones; "tools torch" by default
#   DOCKER    docker, or a program that understands its options
#   BUILD     further options of `docker build`
# The label dev.boothline.variant says what the torch that pip found was built for: cpu or cuda.
# The wheels are gathered (or built, where a package ships none) with this machine's Python, whose
# version must be the base image's: 3.11. That uses this machine's pip configuration; the build gets
# the files: no index, proxy or credential is known inside, and none can end up in a layer.
set -euo pipefail
cd "$(dirname "$0")/.."
docker=${DOCKER:-docker}
python=.venv/bin/python
pip="$python -m pip -qq --disable-pip-version-check"
base=${BASE:-$(sed -n 's/^ARG BASE=//p' images/dependencies/Containerfile)}
version=$($python -c 'import boothline; print(boothline.__version__)')
revision=$(git rev-parse --short HEAD 2>/dev/null || echo unknown)
work=build/images
context=$work/context
rm -rf "$work" && mkdir -p "$work"
trap 'rm -rf "$work"' EXIT

fresh() {  # an empty context with pip, as a wheel that runs
  rm -rf "$context" && mkdir -p "$context/wheels" && cp "$work/pip.whl" "$context/"
}

build() {  # FOLDER TAG OPTIONS: builds images/FOLDER in the context that lies ready
  local folder=$1 tag=$2
  shift 2
  chmod -R a+rX "$context"
  # shellcheck disable=SC2086  # BUILD holds several options
  DOCKER_BUILDKIT=${DOCKER_BUILDKIT:-0} $docker build ${BUILD:-} "$@" --file "images/$folder/Containerfile" \
    --tag "$tag" "$context" >"$work/log" 2>&1 || { tail -n 50 "$work/log" >&2; exit 1; }
}

# Sets dependencies to the image with everything but Boothline; it is built when the pins are new.
depend() {  # IMAGE BASE
  local requirements hash
  requirements=$($python images/requirements.py "$1")
  hash=$({ echo "$requirements $2"; $docker image inspect --format '{{.Id}}' "$2" 2>/dev/null || true
    cat images/warm.py images/dependencies/Containerfile; } | sha256sum | cut -c -12)
  dependencies=boothline/$1-dependencies:$hash
  $docker image inspect "$dependencies" >/dev/null 2>&1 && return
  echo "gathering the wheels of boothline/$1 ..."
  fresh
  echo "$requirements" >"$context/requirements.txt"
  $pip wheel --no-deps --wheel-dir "$context/wheels" -r "$context/requirements.txt"
  cp images/warm.py "$context/"
  echo "building $dependencies ..."
  build dependencies "$dependencies" --build-arg "BASE=$2" --build-arg "IMAGE=$1"
}

$pip wheel --no-deps --wheel-dir "$work" "pip==$($python -c 'import pip; print(pip.__version__)')"
mv "$work"/pip-*.whl "$work/pip.whl"
# What an earlier build left there would end up in the wheel.
rm -rf build/lib build/bdist.*
$pip wheel --no-deps --no-build-isolation --wheel-dir "$work/project" .

depend tools "$base"
for image in ${IMAGES:-tools torch}; do
  [ "$image" = tools ] || depend "$image" "$dependencies"
  fresh
  cp "$work"/project/*.whl "$context/wheels/"
  cp images/sbom.py "$context/"
  variant=cpu
  [ "$image" = tools ] || variant=$($docker run --rm --network none "$dependencies" /opt/boothline/bin/python -c \
    'import torch; print("cuda" if torch.version.cuda else "cpu")')
  echo "building boothline/$image:$version ..."
  build steps "boothline/$image:$version" --build-arg "DEPENDENCIES=$dependencies" \
    --build-arg "IMAGE=$image" --build-arg "VARIANT=$variant" \
    --build-arg "VERSION=$version" --build-arg "REVISION=$revision"
  $docker image inspect --format '{{.Id}} {{.Size}} bytes' "boothline/$image:$version"
done
