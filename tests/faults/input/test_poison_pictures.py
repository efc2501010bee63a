"""Pictures made to do harm: no crash, a reason for each, two seconds and 512 MiB at most."""

import itertools
import random
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from poison_pictures import odd, plain, poison, saved

from boothline.config.subject import SubjectConfig
from boothline.data import examine
from boothline.data.decoder import Picture, Unreadable, decode_all
from boothline.data.limits import MEBIBYTE, Limits
from boothline.settings import Settings

Note = Callable[[str, str], None]
BAR_SECONDS = 2.0
FUZZ_SECONDS = 60.0
MEMORY = Path("/dev/shm")  # noqa: S108
FUZZER = Path(__file__).resolve().parents[1] / "picture_fuzzer.py"
LARGEST_BYTES = 20_000
STATISTIC = re.compile(r"stat::(\w+):\s+(\d+)")


def test_memory_limit_is_that_of_the_table() -> None:
    assert Limits().decode_memory_bytes <= 512 * MEBIBYTE


def test_poison_pictures_are_each_refused_by_name(tmp_path: Path, measured: Note) -> None:
    kinds = {**poison(), **odd()}
    source = tmp_path / "pictures"
    source.mkdir()
    for name, data in kinds.items():
        (source / name).write_bytes(data)
    for seed in range(20, 23):
        (source / f"good-{seed}.png").write_bytes(saved(plain(seed), "PNG"))
    times: list[float] = [time.monotonic()]
    report = examine(
        SubjectConfig(images=str(source), resolution_px=64),
        output=tmp_path / "dataset",
        settings=Settings(home=tmp_path / "home"),
        on_progress=lambda done, total: times.append(time.monotonic()),
    )
    refused = {item.source: item.reason for item in report.quarantined}
    accepted = {item.source for item in report.accepted}
    assert set(refused) | accepted == {path.name for path in source.iterdir()}
    assert [name for name in refused if not refused[name]] == []
    # A picture cut behind its last pixel, or whose bomb lies behind its end, is whole.
    harmless = {"bomb-behind-the-end.png", "many-frames.gif", "bomb-profile.png"}
    whole = {name for name in poison() if name in accepted}
    assert whole <= harmless | {"bomb-49-megapixel.png", "bomb-text.png", "wrong-length.webp"}
    assert sum(name.startswith("good-") for name in accepted) == 3
    slowest = max(later - earlier for earlier, later in itertools.pairwise(times))
    assert slowest < BAR_SECONDS + 2  # the start of the worker is in it
    assert len(kinds) >= 40
    measured(
        "poison pictures",
        f"{len(kinds)} kinds: 0 crashes, each named; {slowest:.1f} s at most, within 512 MiB",
    )


def mutants(draws: random.Random, seeds: list[bytes]) -> list[bytes]:
    """Return damaged copies of pictures: flipped, cut, repeated and spliced."""
    made = []
    for _ in range(100):
        data = bytearray(draws.choice(seeds))
        for _ in range(draws.randrange(1, 12)):
            if not data:
                break
            place = draws.randrange(len(data))
            how = draws.randrange(4)
            if how == 0:
                data[place] ^= 1 << draws.randrange(8)
            elif how == 1:
                data[place : place + 4] = draws.randbytes(4)
            elif how == 2:
                del data[place : place + draws.randrange(1, 40)]
            else:
                other = draws.choice(seeds)
                start = draws.randrange(len(other) or 1)
                data[place:place] = other[start : start + draws.randrange(1, 200)]
        made.append(bytes(data))
    return made


def fuzz(folder: Path, *, seconds: float, seed: int) -> tuple[int, list[str]]:
    """Decode damaged pictures for a while; return how many, and what ended the decoder."""
    draws = random.Random(seed)
    seeds = [data for data in {**odd(), **poison(bombs=False)}.values() if 0 < len(data) < 40_000]
    num_done, ends = 0, []
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        paths = []
        for number, data in enumerate(mutants(draws, seeds)):
            path = folder / f"{number:03d}"
            path.write_bytes(data)
            paths.append(path)
        results = decode_all(paths, sizes_px=[(32, 32)], folder=folder / "decoded", limits=Limits())
        assert all(isinstance(result, Picture) or result.reason for result in results)
        num_done += len(results)
        ends += [
            result.reason
            for result in results
            if isinstance(result, Unreadable) and "the decoder" in result.reason
        ]
    return num_done, ends


def test_fuzzed_pictures_never_end_the_decoder(tmp_path: Path) -> None:
    num_done, ends = fuzz(tmp_path, seconds=2.0, seed=1)
    assert num_done >= 100
    assert ends == []


def guided_fuzz(folder: Path, *options: str) -> dict[str, int]:
    """Fuzz the decoder guided by coverage, from all odd pictures; return libFuzzer's figures.

    Its limit of time counts the write of each picture too, so these wait for no disk.
    """
    corpus = folder / "corpus"
    corpus.mkdir()
    for name, data in {**odd(), **poison(bombs=False)}.items():
        if 0 < len(data) < LARGEST_BYTES:
            (corpus / name).write_bytes(data)
    bounds = [
        f"-max_len={LARGEST_BYTES}", f"-timeout={BAR_SECONDS:.0f}", "-rss_limit_mb=512",
        "-print_final_stats=1", f"-artifact_prefix={folder}/",
    ]  # fmt: skip
    # A shell between: a process starts with the peak memory of the one that it was forked from.
    between = ["/bin/sh", "-c", '"$@"; exit $?', "fuzz"]
    with tempfile.TemporaryDirectory(dir=MEMORY if MEMORY.is_dir() else folder) as scratch:
        run = subprocess.run(
            [*between, sys.executable, str(FUZZER), scratch, str(corpus), *bounds, *options],
            capture_output=True, text=True, check=False,
        )  # fmt: skip
    assert run.returncode == 0, run.stdout[-3000:] + run.stderr[-3000:]
    return {name: int(value) for name, value in STATISTIC.findall(run.stderr)}


def test_odd_pictures_pass_the_fuzzer_once(tmp_path: Path) -> None:
    figures = guided_fuzz(tmp_path, "-runs=0")
    assert figures["number_of_executed_units"] > 50


@pytest.mark.faults
def test_pictures_fuzzed_for_a_minute_never_end_the_decoder(tmp_path: Path, measured: Note) -> None:
    figures = guided_fuzz(tmp_path, f"-max_total_time={FUZZ_SECONDS:.0f}")
    assert figures["number_of_executed_units"] > 1000
    measured(
        "poison pictures",
        f"fuzz of {FUZZ_SECONDS:.0f} s guided by coverage: {figures['number_of_executed_units']}"
        f" pictures, 0 crashes, {figures['slowest_unit_time_sec']} s and"
        f" {figures['peak_rss_mb']} MiB at most",
    )
