"""How a rank tells the process that started it why it failed: one JSON file a rank."""

from pathlib import Path

from boothline.errors import (
    MEMORY_SIGNS,
    BoothlineError,
    DiskFullError,
    TrainingError,
    is_disk_full,
)
from boothline.runs import Failure

PEER_LOST = "PeerLostError"
_PEER_SIGNS = (
    "closed by peer",
    "reset by peer",
    "gloo",
    "nccl",
    "broken pipe",
    "connection refused",
)
# oneDNN says no more than this when the host has no memory for a convolution's own buffers; with
# "descriptor" behind it, it means that the operation is not supported.
_PRIMITIVE_SIGN = "could not create a primitive"
MEMORY_REMEDY = (
    "Raise training.accumulation (the global batch stays), set "
    "training.gradient_checkpointing=true, use training.precision=bf16 on a GPU, or use fewer "
    "ranks per machine."
)


RESUME_REMEDY = "`boothline resume` goes on from the last training state."


def write_failure(folder: Path, error: BaseException, *, rank: int) -> None:
    """Record why a rank failed."""
    failure = Failure.of(_typed(error, rank=rank))
    if _is_peer_loss(error):
        failure = failure.model_copy(update={"type": PEER_LOST})
    (folder / f"error-{rank}.json").write_text(failure.model_dump_json(), encoding="utf-8")


def mark_done(folder: Path, *, rank: int) -> None:
    """Record that a rank ended well."""
    (folder / f"done-{rank}").touch()


def has_ended(folder: Path, *, rank: int) -> bool:
    """Return whether a rank has said how it ended."""
    return (folder / f"done-{rank}").exists() or (folder / f"error-{rank}.json").exists()


def failure_of(folder: Path, *, world_size: int, ranks: range | None = None) -> BoothlineError:
    """Return the error that stopped a training: the cause, not what followed from it.

    A typed error wins; then a rank that ended without a word, which is one that was killed.

    Args:
        folder: where the ranks left word.
        world_size: number of all ranks.
        ranks: the ranks of this machine; all by default.
    """
    recorded = {rank: _read(folder, rank) for rank in ranks or range(world_size)}
    for failure in recorded.values():
        if failure is not None and failure.type != PEER_LOST:
            return failure.error()
    silent = [
        rank
        for rank, failure in recorded.items()
        if failure is None and not (folder / f"done-{rank}").exists()
    ]
    if silent:
        return TrainingError(
            f"Rank {', '.join(map(str, silent))} of {world_size} ended without a word: "
            "it was killed, perhaps for using too much memory.",
            remedy=f"{RESUME_REMEDY} {MEMORY_REMEDY}",
        )
    return TrainingError("The ranks lost each other.", remedy=RESUME_REMEDY)


def _read(folder: Path, rank: int) -> Failure | None:
    path = folder / f"error-{rank}.json"
    return Failure.model_validate_json(path.read_bytes()) if path.exists() else None


def _typed(error: BaseException, *, rank: int) -> BoothlineError:
    """Return an exception as the error a reader can act on."""
    if isinstance(error, BoothlineError):
        return error
    text = f"{type(error).__name__}: {error}"
    if is_out_of_memory(error):
        return TrainingError(f"Rank {rank} ran out of memory ({text}).", remedy=MEMORY_REMEDY)
    # safetensors writes files by itself, and its error carries no number.
    if is_disk_full(error) or "no space left" in text.lower():
        return DiskFullError(
            f"Rank {rank} found no space on the disk ({error}).", remedy="Free some space."
        )
    return TrainingError(f"Rank {rank} failed: {text}.", remedy=RESUME_REMEDY)


def is_out_of_memory(error: BaseException) -> bool:
    """Tell whether an exception says that memory ran out, on the host or on an accelerator."""
    text = f"{type(error).__name__}: {error}".lower()
    if isinstance(error, MemoryError) or text.endswith(_PRIMITIVE_SIGN):
        return True
    return any(sign in text for sign in MEMORY_SIGNS)


def _is_peer_loss(error: BaseException) -> bool:
    """Tell whether an exception only says that another rank is gone."""
    if isinstance(error, BoothlineError) or not isinstance(error, RuntimeError):
        return False
    text = str(error).lower()
    return any(sign in text for sign in _PEER_SIGNS)
