"""Fuzzes what the picture decoder does with a file, guided by the code that each file reaches.

Usage: python picture_fuzzer.py SCRATCH FOLDER [options of libFuzzer]. FOLDER holds the pictures to
start from and receives those that reach new code; each picture passes through a file in SCRATCH,
whose writes count in libFuzzer's limit of time. All that the decoder does for a picture runs here,
in one process: a crash, an exception, a slow or a large picture ends it with another code than 0.
"""

import sys
from pathlib import Path

import atheris

with atheris.instrument_imports(include=["PIL", "boothline.data"]):
    from PIL import Image

    Image.init()
    from boothline.data import decode_worker
    from boothline.data.decoder import Limits, make_request


def main(arguments: list[str]) -> None:
    """Fuzz until libFuzzer ends."""
    folder = Path(arguments.pop(1))
    path = folder / "picture"
    limits = Limits(max_pixels=1_000_000)
    request = make_request(
        [], sizes_px=[(32, 32)], folder=folder, limits=limits, interpolation="lanczos"
    )

    def examine(data: bytes) -> None:
        path.write_bytes(data)
        answer = decode_worker._answer(path, number=0, request=request)
        assert answer.get("reason") or answer["pixel_digest"]

    atheris.Setup(arguments, examine)
    atheris.Fuzz()


if __name__ == "__main__":
    main(sys.argv)
