"""Examines the container images of the containers profile: which ones, by their digests."""

import shutil
import subprocess

import boothline
from boothline.doctor.findings import Finding, ok, warning

NAMES = tuple(f"boothline/{image}:{boothline.__version__}" for image in ("tools", "torch"))
_REVISION = '{{index .Config.Labels "org.opencontainers.image.revision"}}'
_FORMAT = "{{.Id}} " + _REVISION
_SECONDS = 10.0


def images(names: tuple[str, ...] = NAMES) -> Finding:
    """Examine whether Docker has the images, and name their digests and revisions.

    Args:
        names: the images, with their tags.
    """
    program = shutil.which("docker")
    if program is None:
        return ok("images", "no Docker here; only --profile containers needs it")
    digests, missing = [], []
    for name in names:
        query = [program, "image", "inspect", "--format", _FORMAT, name]
        try:
            answer = subprocess.run(
                query, capture_output=True, text=True, timeout=_SECONDS, check=False
            )
        except (OSError, subprocess.TimeoutExpired) as error:
            return _silent(str(error))
        if answer.returncode == 0:
            digests.append(_shown(name, answer.stdout))
        elif "no such image" in answer.stderr.lower():
            missing.append(name)
        else:
            return _silent(answer.stderr.strip())
    detail = "; ".join([*digests, *(f"{name} is missing" for name in missing)])
    if not missing:
        return ok("images", detail)
    return warning("images", detail, "`make images` builds what --profile containers needs.")


def _shown(name: str, answer: str) -> str:
    """Return an image as name, digest and revision."""
    digest, *revision = answer.split()
    return f"{name} is {digest}" + (f" of revision {revision[0]}" if revision else "")


def _silent(reason: str) -> Finding:
    return warning(
        "images",
        f"Docker does not answer: {reason}",
        "Start Docker if you want --profile containers; nothing else needs it.",
    )
