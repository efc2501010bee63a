"""The calls of the minio SDK that are not public: all of them stand here, and are checked at start.

The SDK's public calls cannot do this: `put_object` takes no headers, so that it cannot write on a
condition; its upload in parts starts again from the first byte when one answer is lost; and no
call lists unfinished uploads or returns the headers of an answer. A presigned URL does not help:
S3 refuses x-amz- headers (the owner's mark, the checksum) that its signature does not cover. So
the SDK is pinned, and `check` refuses one whose calls are not those that are used here.
"""

import inspect
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from boothline.errors import ConfigError

if TYPE_CHECKING:
    from minio import Minio
    from minio.datatypes import ListMultipartUploadsResult, Part
    from urllib3 import BaseHTTPResponse

    from boothline.store.s3 import Bucket

_CALLS = {
    "_execute": ("method", "bucket_name", "query_params"),
    "_put_object": ("bucket_name", "object_name", "data", "headers"),
    "_create_multipart_upload": ("bucket_name", "object_name", "headers"),
    "_upload_part": ("bucket_name", "object_name", "data", "headers", "upload_id", "part_number"),
    "_complete_multipart_upload": ("bucket_name", "object_name", "upload_id", "parts"),
    "_abort_multipart_upload": ("bucket_name", "object_name", "upload_id"),
    "_list_multipart_uploads": ("bucket_name", "prefix", "key_marker"),
}
"""Each call with the parameters that are given to it."""


def check(client: type["Minio"]) -> None:
    """Check that the installed SDK has the calls that are used here.

    Raises:
        ConfigError: one is gone or takes other parameters.
    """
    for name, wanted in _CALLS.items():
        call = getattr(client, name, None)
        if call is None or not set(wanted) <= set(inspect.signature(call).parameters):
            raise ConfigError(
                f"The installed minio package has another {name} than Boothline was written for.",
                remedy="Install the release that Boothline names: pip install --upgrade boothline.",
            )


def ask(bucket: "Bucket", query: Mapping[str, str]) -> "BaseHTTPResponse":
    """Return the whole answer of a GET on a bucket."""
    answer: BaseHTTPResponse = bucket.client._execute("GET", bucket.name, query_params=dict(query))
    return answer


def put(bucket: "Bucket", key: str, data: bytes, *, headers: Mapping[str, str]) -> None:
    """Write an object with headers of its own, a condition among them."""
    bucket.client._put_object(bucket.name, bucket.name_of(key), data, headers=dict(headers))


def start_upload(bucket: "Bucket", key: str) -> str:
    """Start an upload in parts and return its id."""
    headers = {"Content-Type": "application/octet-stream"}
    name = bucket.name_of(key)
    return str(bucket.client._create_multipart_upload(bucket.name, name, headers))


def send_part(
    bucket: "Bucket", key: str, data: bytes, *, md5: str, upload_id: str, number: int
) -> str:
    """Send one part under its digest (base64) and return its etag."""
    headers, name = {"Content-MD5": md5}, bucket.name_of(key)
    return str(bucket.client._upload_part(bucket.name, name, data, headers, upload_id, number))


def complete_upload(bucket: "Bucket", key: str, *, upload_id: str, parts: "Sequence[Part]") -> None:
    """Join the parts of an upload."""
    name = bucket.name_of(key)
    bucket.client._complete_multipart_upload(bucket.name, name, upload_id, list(parts))


def abort_upload(bucket: "Bucket", key: str, *, upload_id: str) -> None:
    """Give an upload up, so that its parts are freed."""
    bucket.client._abort_multipart_upload(bucket.name, bucket.name_of(key), upload_id)


def list_uploads(bucket: "Bucket", *, after: str) -> "ListMultipartUploadsResult":
    """Return a page of the unfinished uploads, after the name that ended the page before."""
    return bucket.client._list_multipart_uploads(
        bucket.name, prefix=bucket.prefix, key_marker=after
    )
