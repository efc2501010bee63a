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

_CALLS = {
    "_execute": ("method", "bucket_name", "query_params"),
    "_put_object": ("bucket_name", "object_name", "data", "headers"),
    "_create_multipart_upload": ("bucket_name", "object_name", "headers"),
    "_upload_part": ("bucket_name", "object_name", "data", "headers", "upload_id", "part_number"),
    "_complete_multipart_upload": ("bucket_name", "object_name", "upload_id", "parts"),
    "_abort_multipart_upload": ("bucket_name", "object_name", "upload_id"),
    "_list_multipart_uploads": ("bucket_name", "prefix", "key_marker", "upload_id_marker"),
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


def ask(client: "Minio", bucket: str, query: Mapping[str, str]) -> "BaseHTTPResponse":
    """Return the whole answer of a GET on a bucket."""
    answer: BaseHTTPResponse = client._execute("GET", bucket, query_params=dict(query))
    return answer


def put(
    client: "Minio", bucket: str, name: str, data: bytes, *, headers: Mapping[str, str]
) -> None:
    """Write an object with headers of its own, a condition among them."""
    client._put_object(bucket, name, data, headers=dict(headers))


def start_upload(client: "Minio", bucket: str, name: str, *, headers: Mapping[str, str]) -> str:
    """Start an upload in parts and return its id."""
    return str(client._create_multipart_upload(bucket, name, dict(headers)))


def send_part(
    client: "Minio", bucket: str, name: str, data: bytes, *, md5: str, upload_id: str, number: int
) -> str:
    """Send one part under its digest (base64) and return its etag."""
    headers = {"Content-MD5": md5}
    return str(client._upload_part(bucket, name, data, headers, upload_id, number))


def complete_upload(
    client: "Minio", bucket: str, name: str, *, upload_id: str, parts: "Sequence[Part]"
) -> None:
    """Join the parts of an upload."""
    client._complete_multipart_upload(bucket, name, upload_id, list(parts))


def abort_upload(client: "Minio", bucket: str, name: str, *, upload_id: str) -> None:
    """Give an upload up, so that its parts are freed."""
    client._abort_multipart_upload(bucket, name, upload_id)


def list_uploads(
    client: "Minio", bucket: str, *, prefix: str, key_marker: str, id_marker: str
) -> "ListMultipartUploadsResult":
    """Return a page of the unfinished uploads, after the markers of the page before."""
    return client._list_multipart_uploads(
        bucket,
        prefix=prefix,
        key_marker=key_marker or None,
        upload_id_marker=id_marker or None,
    )
