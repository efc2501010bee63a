"""`subject`: what is being learnt."""

import re
from typing import Literal, Self

from pydantic import Field, model_validator

from boothline.config.section import SUBJECT_FIELD, Section

MaskMode = Literal["auto", "off"]
_BUCKET = re.compile(r"[1-9]\d{1,3}x[1-9]\d{1,3}")


_NAME = r"^[a-z0-9][a-z0-9-]{0,62}$"
_IDENTIFIER = r"^[A-Za-z0-9][A-Za-z0-9 _-]{0,31}$"
_NOUN = r"^[A-Za-z][A-Za-z0-9 -]*$"
UNNAMED = "subject"


class OneSubject(Section):
    """One of several subjects of a model; what it does not say is as in `subject`."""

    name: str = Field(
        pattern=_NAME, description="Name of the subject in reports and rules of the gate."
    )
    images: str = Field(
        min_length=1,
        description="Instance images: a folder, a .zip/.tar archive, or an s3:// prefix.",
    )
    identifier: str = Field(
        pattern=_IDENTIFIER,
        description="Rare token that stands for this subject and no other one.",
    )
    class_noun: str = Field(
        min_length=1,
        max_length=64,
        pattern=_NOUN,
        description="Noun of its class; several subjects may be of one class.",
    )


class SubjectConfig(Section):
    """What is being learnt: the pictures, the identifier and the class noun."""

    name: str = Field(
        default=UNNAMED,
        pattern=_NAME,
        description="Name of the subject; names the registered model.",
    )
    images: str = Field(
        default="examples/subjects/teddy-bear",
        min_length=1,
        description="Instance images: a folder, a .zip/.tar archive, or an s3:// prefix.",
    )
    identifier: str = Field(
        default="sks",
        pattern=_IDENTIFIER,
        description="Rare token that stands for the subject; must be one token of the tokenizer.",
    )
    class_noun: str = Field(
        default="bear",
        min_length=1,
        max_length=64,
        pattern=_NOUN,
        description="Noun of the class that the subject belongs to.",
    )
    prompt: str = Field(
        default="a photo of {subject}",
        min_length=1,
        max_length=300,
        description="Caption of an instance image that has no caption file of its own.",
    )
    resolution_px: int = Field(
        default=64,
        ge=32,
        le=2048,
        multiple_of=8,
        description="Side of the training pictures, in pixels.",
    )
    aspect_buckets: tuple[str, ...] = Field(
        default=(),
        max_length=20,
        description="Sizes, e.g. [64x64, 96x64] (width x height in pixels, multiples of 8): each "
        "picture is cut to the one nearest in shape, and each batch holds pictures of one; none: "
        "all pictures are cut to squares.",
    )
    interpolation: Literal["lanczos", "bicubic", "bilinear", "nearest"] = Field(
        default="lanczos",
        description="How pictures are scaled to their training size; nearest keeps the hard edges "
        "of pixel art.",
    )
    masks: MaskMode = Field(
        default="auto",
        description="auto: transparent pixels, and black ones of NAME-mask.png next to the picture "
        "NAME, get no gradient, grey ones a part of it; off: transparency is laid over white and "
        "learnt, and such files are pictures.",
    )
    min_images: int = Field(default=3, ge=1, le=100, description="Fewest usable instance images.")
    max_images: int = Field(default=100, ge=1, le=1000, description="Most instance images.")

    @property
    def phrase(self) -> str:
        """Identifier and class noun, as they stand in prompts: `sks bear`."""
        return f"{self.identifier} {self.class_noun}"

    def fill(self, template: str) -> str:
        """Return the template with `{subject}` replaced by the phrase."""
        return template.replace(SUBJECT_FIELD, self.phrase)

    @model_validator(mode="after")
    def _check(self) -> Self:
        if SUBJECT_FIELD not in self.prompt:
            raise ValueError(f"subject.prompt must contain {SUBJECT_FIELD}, got {self.prompt!r}")
        self._check_buckets()
        if self.max_images < self.min_images:
            raise ValueError(
                f"subject.max_images ({self.max_images}) is below "
                f"subject.min_images ({self.min_images})"
            )
        return self

    def _check_buckets(self) -> None:
        """Refuse buckets that are not sizes, or named twice."""
        for bucket in self.aspect_buckets:
            if not _BUCKET.fullmatch(bucket) or any(int(side) % 8 for side in bucket.split("x")):
                raise ValueError(
                    f"subject.aspect_buckets: {bucket!r} is not a size such as 96x64, width x "
                    "height in pixels, both multiples of 8"
                )
        if len(set(self.aspect_buckets)) < len(self.aspect_buckets):
            raise ValueError("subject.aspect_buckets names a bucket twice; name each once")
