"""Pictures that lie under a prefix of the object store."""

import http.client
import io
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

import pytest
import s3_servers
from command_line import boothline
from PIL import Image

from boothline.data.sources import Collection, collect
from boothline.errors import ConfigError
from boothline.settings import Settings
from boothline.store.s3 import Bucket

ODD_KEYS = [
    "plain.png", "with space.png", "a+b.png", "100%.png", "%41.png", "q?x=1&y.png", "#hash.png",
    "ü.png", "u\u0308.png", "犬.png", "😀.png", "<x>&amp;.png", "tab\t.png",
    "a//b.png", "/first.png", "back\\slash.png", "'quoted' \"twice\".png", "dots...png", "a:b.png",
    "~tilde.png", "l" * 900 + ".png", "semi;colon,comma=@$!*().png",
]  # fmt: skip


@pytest.mark.services
def test_collect_s3_prefix_gives_its_objects(tmp_path, store, store_settings):
    bucket = Bucket.connect(store_settings)
    for name in ("b.png", "a.png", "sub/c.png", ".hidden"):
        bucket.put(f"pictures/{name}", name.encode())
    source = f"s3://{store_settings.bucket}/{store_settings.prefix}/pictures"
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


@dataclass(frozen=True)
class Keys:
    """A server that takes any key, and what is collected from it."""

    settings: Settings
    folder: Path

    def put(self, key: str) -> None:
        """Write an object whose bytes are its key; clients would refuse some of these keys."""
        host = self.settings.s3_endpoint.removeprefix("http://")
        connection = http.client.HTTPConnection(host)
        data = key.encode()
        connection.request("PUT", f"/{self.settings.bucket}/{quote(key, safe='/')}", body=data)
        assert connection.getresponse().status == 200
        connection.close()

    def collected(self, prefix: str) -> Collection:
        source = f"s3://{self.settings.bucket}/{prefix}"
        return collect(source, self.folder / "scratch", settings=self.settings)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Settings]:
    home = tmp_path_factory.mktemp("keys")
    with s3_servers.moto(home) as endpoints:
        settings = endpoints.settings(home=home, bucket="keys", prefix="team")
        Bucket.connect(settings)
        yield settings


@pytest.fixture
def keys(server: Settings, tmp_path: Path) -> Keys:
    return Keys(settings=server, folder=tmp_path)


@pytest.mark.services
def test_collect_s3_prefix_reads_odd_keys_to_their_bytes(keys: Keys) -> None:
    for key in ODD_KEYS:
        keys.put(f"odd/{key}")
    found = keys.collected("odd")
    assert {file.path.read_bytes().decode() for file in found.pictures} == {
        f"odd/{key}" for key in ODD_KEYS
    }
    assert found.refused == ()


@pytest.mark.services
@pytest.mark.parametrize("key", ["../up.png", "./here.png", "a/../b.png", "a/./b.png"])
def test_collect_s3_key_that_climbs_is_left_out_by_name(keys: Keys, key: str) -> None:
    folder = f"climbs {key.replace('/', ' ')}"
    keys.put(f"{folder}/{key}")
    keys.put(f"{folder}/plain.png")
    found = keys.collected(folder)
    assert [file.name for file in found.pictures] == ["plain.png"]
    (refusal,) = found.refused
    assert (refusal.name, refusal.reason) == (key, "has a part '.' or '..' in its key")


@pytest.mark.services
@pytest.mark.parametrize("prefix", ["..", "a/../b", "./a/"])
def test_collect_s3_prefix_that_climbs_is_refused(keys: Keys, prefix: str) -> None:
    with pytest.raises(ConfigError, match="whose prefix has a part"):
        keys.collected(prefix)


@pytest.mark.services
@pytest.mark.parametrize("prefix", ["with space", "100%", "a+b", "ü", "q?x=1", "#1", "a//b"])
def test_collect_s3_prefix_of_odd_characters_is_found(keys: Keys, prefix: str) -> None:
    keys.put(f"{prefix}/a.png")
    (picture,) = keys.collected(prefix).pictures
    assert picture.path.read_bytes().decode() == f"{prefix}/a.png"
