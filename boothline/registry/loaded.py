"""A registered version, loaded: fetched by digest, verified, and ready to make pictures."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Unpack

from boothline.registry.versions import ModelVersion
from boothline.results import Model
from boothline.settings import Settings
from boothline.store import Store

if TYPE_CHECKING:
    from PIL.Image import Image

    from boothline.config.sampling import SamplingConfig, SamplingPrecision
    from boothline.diffusion.loading import DiffusionParts
    from boothline.pictures.plan import PlannedPicture
    from boothline.pictures.prompts import PromptRow
    from boothline.pictures.table import PictureSettings

MODEL_FOLDER: Final = "diffusers/"


@dataclass(frozen=True, kw_only=True)
class LoadedModel:
    """A version that is loaded.

    Attributes:
        version: which one.
        facts: what its manifest says of it.
        pipeline: its networks.
    """

    version: ModelVersion
    facts: Model
    pipeline: "DiffusionParts"

    @classmethod
    def load(
        cls,
        store: Store,
        settings: Settings,
        version: ModelVersion,
        *,
        precision: "SamplingPrecision" = "fp32",
    ) -> "LoadedModel":
        """Fetch a version and load it; what is cached is compared with its digests again.

        Args:
            store: holds its files.
            settings: the home folder, whose cache is used, and a verification key, if any.
            version: the version.
            precision: what its denoiser and text encoders are computed in.

        Raises:
            NotFoundError: its manifest does not exist.
            IntegrityError: a file differs from its digest, or the signature is invalid.
        """
        from boothline.diffusion.loading import load_pipeline
        from boothline.diffusion.signatures import verify_signed

        folder = settings.home / "cache" / "models" / version.digest
        store.fetch(version.ref, folder, prefix=MODEL_FOLDER)
        verify_signed(store, settings, version.ref, folder / MODEL_FOLDER)
        return cls(
            version=version,
            facts=store.read_as(Model, version.ref),
            pipeline=load_pipeline(folder / MODEL_FOLDER, for_sampling=True, precision=precision),
        )

    def generate(
        self, prompt: str, *, num_images: int = 1, **settings: "Unpack[PictureSettings]"
    ) -> "list[Image]":
        """Return pictures of a prompt, those that `boothline generate` makes.

        Args:
            prompt: what they show.
            num_images: how many, at most 1000.
            settings: `seed` (0), `steps`, `guidance`, `sampler`, `negative`, `size` ("768x512");
                what is left out is as in `boothline generate`.

        Raises:
            ConfigError: the size cannot be used, or a setting is unknown.
            DataError: another setting cannot be used.
        """
        from boothline.pictures.table import row_of

        row = row_of({"prompt": prompt, **settings})
        return [image for _, image in self.draw([row], num_images=num_images)]

    def draw(
        self, rows: "Sequence[PromptRow]", *, num_images: int = 1
    ) -> "list[tuple[PlannedPicture, Image]]":
        """Return the pictures of rows in their order, each with what it was planned as."""
        from boothline.config.sampling import SamplingConfig
        from boothline.pictures.making import generate

        planned = self.plan(rows, sampling=SamplingConfig(), num_images=num_images)
        made = {picture.name: image for picture, image in generate(self.pipeline, planned)}
        return [(picture, made[picture.name]) for picture in planned]

    def plan(
        self, rows: "Sequence[PromptRow]", *, sampling: "SamplingConfig", num_images: int
    ) -> "list[PlannedPicture]":
        """Return the pictures of rows; settings that nobody chose fit the model's family."""
        from boothline.diffusion.presets import fitting_sampling
        from boothline.pictures.plan import plan_pictures

        fitting = fitting_sampling(self.pipeline.family, sampling)
        return plan_pictures(rows, sampling=fitting, images_per_prompt=num_images)
