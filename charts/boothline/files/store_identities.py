"""Writes SeaweedFS's identities from mounted credentials: CREDENTIALS_FOLDER OUTPUT_FILE."""

import json
import os
import sys
from pathlib import Path

RIGHTS = {
    "admin": ("Admin", "Read", "Write", "List", "Tagging"),
    "pipeline": ("Read:{bucket}", "Write:{bucket}", "List:{bucket}", "Tagging:{bucket}"),
    "reader": ("Read:{bucket}", "List:{bucket}"),
    "collector": ("Read:{bucket}", "Write:{bucket}", "List:{bucket}"),
}
MINIMUM_LENGTH = 16


def identity(folder: Path, bucket: str) -> dict[str, object]:
    """Return the identity of a role, whose folder holds `access-key` and `secret-key`."""
    access = (folder / "access-key").read_text().strip()
    secret = (folder / "secret-key").read_text().strip()
    if len(secret) < MINIMUM_LENGTH or secret == access:
        raise SystemExit(
            f"The secret key of role {folder.name} has under {MINIMUM_LENGTH} letters."
        )
    return {
        "name": folder.name,
        "credentials": [{"accessKey": access, "secretKey": secret}],
        "actions": [right.format(bucket=bucket) for right in RIGHTS[folder.name]],
    }


def main(credentials: Path, output: Path) -> None:
    """Write the identities of all roles that have credentials."""
    roles = sorted(folder for folder in credentials.iterdir() if folder.name in RIGHTS)
    identities = [identity(folder, os.environ["BOOTHLINE_BUCKET"]) for folder in roles]
    if len({item["credentials"][0]["accessKey"] for item in identities}) < len(identities):
        raise SystemExit("Two roles have the same access key: give each role its own.")
    output.write_text(json.dumps({"identities": identities}))
    output.chmod(0o400)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
