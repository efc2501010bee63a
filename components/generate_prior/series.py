"""A series: all class pictures that one base model, prompt list and sampler can give, in chunks.

Picture i of a series is always the same. Pictures are made in aligned chunks, each committed as its
own manifest `priors/<series>/<first index>-<number>` as soon as it is done, so that a killed step
goes on after its last chunk, more pictures top a series up, and none is ever made twice.
"""

from collections.abc import Iterable
from dataclasses import dataclass

from boothline.config import RunConfig
from boothline.config.prior import PriorConfig
from boothline.store import FileEntry, ManifestRef, Store, layout


@dataclass(frozen=True, kw_only=True, order=True)
class Chunk:
    """Pictures that are sampled and committed together.

    Attributes:
        first: index of the first picture.
        size: number of pictures.
    """

    first: int
    size: int

    @property
    def indices(self) -> range:
        """Indices of the pictures."""
        return range(self.first, self.first + self.size)


@dataclass(frozen=True, kw_only=True)
class StoredPicture:
    """A class picture in the store.

    Attributes:
        entry: its blob.
        chunk: the manifest it was committed with.
    """

    entry: FileEntry
    chunk: ManifestRef


@dataclass(frozen=True, kw_only=True)
class Series:
    """A series of class pictures.

    Attributes:
        base_model_digest: the model that makes them.
        prior: prompts and sampling.
        class_noun: noun of the class.
        num_images: how many of its pictures are wanted.
        resolution_px: side of the pictures, in pixels.
    """

    base_model_digest: str
    prior: PriorConfig
    class_noun: str
    resolution_px: int
    num_images: int

    @classmethod
    def of(
        cls, config: RunConfig, *, base_model_digest: str, num_images: int | None = None
    ) -> "Series":
        """Return the series that a run's configuration asks for; of other length if given."""
        return cls(
            base_model_digest=base_model_digest,
            prior=config.prior,
            class_noun=config.subject.class_noun,
            resolution_px=config.subject.resolution_px,
            num_images=config.prior.num_images if num_images is None else num_images,
        )

    @property
    def digest(self) -> str:
        """Digest of all that a picture depends on; the batch size is not among it."""
        return layout.key_of(self.facts())

    def facts(self) -> dict[str, object]:
        """Return what a picture depends on, as JSON."""
        prompts = self.prior.prompts or (self.prior.prompt,)
        return {
            "base_model": self.base_model_digest,
            "prompts": [self.caption(number) for number in range(len(prompts))],
            "sampling": self.prior.sampling.model_dump(mode="json", exclude={"batch_size"}),
            "resolution_px": self.resolution_px,
        }

    def caption(self, index: int) -> str:
        """Return the prompt of picture `index`."""
        return self.prior.prompt_of(index, self.class_noun)

    def chunks(self, shard: int) -> list[Chunk]:
        """Return the chunks of a shard: every `num_shards`-th of those that hold the pictures."""
        size = self.prior.sampling.batch_size
        starts = range(0, self.num_images, size)
        return [Chunk(first=first, size=size) for first in starts[shard :: self.prior.num_shards]]

    def path(self, chunk: Chunk) -> str:
        """Return where a chunk is committed."""
        return layout.chunk(self.digest, first=chunk.first, size=chunk.size)


def file_name(index: int) -> str:
    """Return the path of a class picture in its manifest."""
    return f"images/{index:06d}.png"


def stored_pictures(
    store: Store, series: Series, wanted: Iterable[int]
) -> dict[int, StoredPicture]:
    """Return those of the wanted pictures that the store has, by index.

    Chunks of another size count too: a changed batch size makes nothing anew. Where two hold one
    picture, the first by path is taken.
    """
    missing = set(wanted)
    found: dict[int, StoredPicture] = {}
    for path in store.manifests(layout.chunks(series.digest)):
        first, size = (int(part) for part in path.rsplit("/", 1)[-1].split("-"))
        here = missing.intersection(range(first, first + size))
        ref = store.find(path) if here else None
        if ref is not None:
            found.update(pictures_of(store, ref, here))
            missing -= here
    return found


def pictures_of(store: Store, ref: ManifestRef, indices: Iterable[int]) -> dict[int, StoredPicture]:
    """Return pictures of one committed chunk, by index."""
    manifest = store.read(ref)
    return {
        index: StoredPicture(entry=manifest.entry(file_name(index)), chunk=ref) for index in indices
    }
