"""Makes the bucket and writes its policy; run with the admin role's BOOTHLINE_* environment."""

import json
import time

from minio import Minio
from minio.error import MinioException, S3Error
from urllib3.exceptions import HTTPError

from boothline.settings import Settings
from boothline.store.connection import new_client

KEPT = ("blobs", "steps", "priors", "runs", "registry", "ledger", "retrain")
DEADLINE_SECONDS = 300


def policy(bucket: str, prefix: str) -> str:
    """Return the policy that keeps every role but admin and collector from deleting results.

    The pipeline's role may write everywhere and delete only under training/, where it prunes
    training states.
    """
    root = f"arn:aws:s3:::{bucket}/{prefix}/" if prefix else f"arn:aws:s3:::{bucket}/"
    statement = {
        "Sid": "KeepResults",
        "Effect": "Deny",
        "Principal": {"AWS": [f"arn:aws:iam::*:user/{role}" for role in ("pipeline", "reader")]},
        "Action": ["s3:DeleteObject", "s3:DeleteObjectVersion"],
        "Resource": [f"{root}{folder}/*" for folder in KEPT],
    }
    return json.dumps({"Version": "2012-10-17", "Statement": [statement]})


def prepare(client: Minio, settings: Settings) -> None:
    """Make the bucket if it is missing and write its policy."""
    if not client.bucket_exists(settings.bucket):
        client.make_bucket(settings.bucket)
    client.set_bucket_policy(settings.bucket, policy(settings.bucket, settings.prefix.strip("/")))


def main() -> None:
    """Prepare the store as soon as it answers."""
    settings = Settings()
    deadline = time.monotonic() + DEADLINE_SECONDS
    while True:
        try:
            return prepare(new_client(settings), settings)
        except (MinioException, S3Error, HTTPError, OSError):
            if time.monotonic() > deadline:
                raise
            time.sleep(2)


if __name__ == "__main__":
    main()
