"""Asks a program that runs a whole series of attempts: the request and the answer are JSON."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from pydantic import SecretStr

from boothline.settings import Settings

CHECKOUT = Path(__file__).resolve().parents[1]
FAULTS = CHECKOUT / "tests" / "faults"


def ask(program: str, settings: Settings, **request: Any) -> dict[str, Any]:
    """Run a program of tests/faults and return its answer, the last line of its output.

    The request goes through a pipe, since it holds the secret key.
    """
    plain = json.loads(settings.model_dump_json())
    for name, value in settings:
        if isinstance(value, SecretStr):
            plain[name] = value.get_secret_value()
    answer = subprocess.run(
        [sys.executable, str(FAULTS / f"{program}.py")],
        input=json.dumps({"settings": plain, **request}),
        env={**os.environ, "PYTHONPATH": str(CHECKOUT), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert answer.returncode == 0, answer.stderr[-3000:]
    return dict(json.loads(answer.stdout.splitlines()[-1]))
