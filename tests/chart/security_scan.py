"""Scans images and chart with checkov: `security_scan.py CHECKOV`; the exit code is checkov's.

Its pins clash with ours, so `make check-security` gives it an environment of its own. An exception
for one object is an annotation beside it; those for all are here, with their reasons.
"""

import subprocess
import sys
import tempfile
from pathlib import Path

from conftest import CHART, ROOT, TRAINER, VALUE_SETS, helm_program, namespace_of

EXCEPTIONS = {
    "CKV_K8S_15": "pull always: images have a version or a digest, so a node need not ask again",
    "CKV_K8S_21": "no default namespace: Helm installs into the release's, objects name none",
    "CKV_K8S_35": "secrets as files: the settings are variables, which refer to Secrets",
    "CKV_K8S_43": "digests: production-values.yaml has them; the sets to try things out need not",
    "CKV_DOCKER_2": "health check: a step runs to its end, servers have the probes of the chart",
    "CKV_DOCKER_7": "version of the base: it is an argument whose default is a digest",
}


def main(checkov: str) -> int:
    """Render every value set, scan it and the Containerfiles; return the exit code."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        helm, rendered = helm_program(folder), folder / "rendered"
        rendered.mkdir()
        for values in VALUE_SETS:
            command = [
                *(str(helm), "template", "rel", str(CHART)),
                *("--namespace", namespace_of(values), "--api-versions", TRAINER),
                *("-f", str(CHART / "ci" / f"{values}.yaml")),
                *("--set", "pipelines.readOnlySteps=true"),
            ]
            with (rendered / f"{values}.yaml").open("w", encoding="utf-8") as output:
                subprocess.run(command, check=True, stdout=output)
        for path in ROOT.glob("images/*/Containerfile"):
            (rendered / path.parent.name).mkdir()
            # The name that checkov knows.
            (rendered / path.parent.name / "Dockerfile").write_bytes(path.read_bytes())
        options = ("--quiet", "--compact", "--skip-download", "--skip-check", ",".join(EXCEPTIONS))
        kinds = ("--framework", "kubernetes", "dockerfile")
        return subprocess.run([checkov, *kinds, "-d", str(rendered), *options]).returncode


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
