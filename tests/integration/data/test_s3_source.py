"""Pictures that lie under a prefix of the object store."""

import pytest

from boothline.data.sources import collect
from boothline.store.s3 import Bucket


@pytest.mark.services
def test_collect_s3_prefix_gives_its_objects(tmp_path, store, store_settings):
    bucket = Bucket.connect(store_settings)
    folder = f"{store_settings.prefix}/pictures"
    for name in ("b.png", "a.png", "sub/c.png", ".hidden"):
        bucket.put(f"{folder}/{name}", name.encode())
    source = f"s3://{store_settings.bucket}/{folder}"
    found = collect(source, tmp_path / "scratch", settings=store_settings)
    assert [file.name for file in found.pictures] == ["a.png", "b.png", "sub/c.png"]
    assert found.pictures[2].path.read_bytes() == b"sub/c.png"
