"""Random draws named by counters: each is a pure function of (seed, stream, index).

A draw does not depend on the draws before it, nor on rank, worker, batch or world size. So training
resumes exactly without stored generator states, and picture i is the same whoever samples it. The
bits come from Philox (Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", SC 2011) with a
128-bit key hashed from the names; NumPy turns them into numbers, alike on every machine.
"""

import hashlib

import numpy as np
import torch

Index = int | tuple[int, ...]


def normal(shape: tuple[int, ...], *, seed: int, stream: str, index: Index) -> torch.Tensor:
    """Return standard normal draws, float32 on the CPU.

    Args:
        shape: shape of the result.
        seed: seed of the run, at least 0.
        stream: what the draw is for, e.g. `noise`; streams are independent of each other.
        index: number of the draw in its stream, or several, e.g. `(step, sample)`.
    """
    source = generator(seed=seed, stream=stream, index=index)
    return torch.from_numpy(np.asarray(source.standard_normal(shape, dtype=np.float32)))


def uniform(shape: tuple[int, ...], *, seed: int, stream: str, index: Index) -> torch.Tensor:
    """Return uniform draws in [0, 1), float32 on the CPU; arguments as in `normal`."""
    source = generator(seed=seed, stream=stream, index=index)
    return torch.from_numpy(np.asarray(source.random(shape, dtype=np.float32)))


def integers(
    shape: tuple[int, ...], *, low: int = 0, high: int, seed: int, stream: str, index: Index
) -> torch.Tensor:
    """Return uniform integers in [low, high), int64 on the CPU; other arguments as in `normal`."""
    source = generator(seed=seed, stream=stream, index=index)
    return torch.from_numpy(np.asarray(source.integers(low, high, size=shape, dtype=np.int64)))


def permutation(length: int, *, seed: int, stream: str, index: Index) -> list[int]:
    """Return the numbers 0 to length - 1 in random order; other arguments as in `normal`."""
    source = generator(seed=seed, stream=stream, index=index)
    return [int(number) for number in source.permutation(length)]


def generator(*, seed: int, stream: str, index: Index) -> np.random.Generator:
    """Return a NumPy generator at the start of the draw (seed, stream, index)."""
    indices = (index,) if isinstance(index, int) else tuple(index)
    name = f"{seed}/{stream}/{'/'.join(str(int(number)) for number in indices)}"
    key = int.from_bytes(hashlib.blake2b(name.encode(), digest_size=16).digest(), "little")
    return np.random.Generator(np.random.Philox(key=key))
