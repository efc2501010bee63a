"""Pictures that lie under a prefix of the object store."""

import io

import pytest
from command_line import boothline
from PIL import Image

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


@pytest.mark.services
def test_validate_reads_pictures_of_the_local_store_without_settings(tmp_path, object_store):
    settings = object_store.settings(home=object_store.home)
    bucket = Bucket.connect(settings)
    for number, colour in enumerate(("red", "green", "blue")):
        pixels = io.BytesIO()
        Image.effect_mandelbrot((128, 96), (-2 + number, -1.5, 1, 1.5), 50).convert("RGB").save(
            pixels, "PNG"
        )
        bucket.put(f"data/teddy/{colour}.png", pixels.getvalue())
    source = f"s3://{settings.bucket}/data/teddy/"
    noun = ("--set", "subject.class_noun=bear")
    words = ("validate", "--subject", source, *noun, "--home", str(object_store.home))
    code, found, error = boothline(tmp_path, *words, variables={})
    assert (code, error) == (0, "")
    assert [item["source"] for item in found["accepted"]] == ["blue.png", "green.png", "red.png"]
