"""What the examination of pictures found, in a form that files, terminals and pages share."""

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from boothline.config.subject import SubjectConfig
from boothline.errors import DataError

_MAX_NAMED = 3
MASK_FIELDS = ("mask", "masked_thumbnail", "learnt_share")

CheckName = Literal[
    "source",
    "decode",
    "size",
    "shape",
    "sharpness",
    "duplicate",
    "mask",
    "caption",
    "identifier",
    "count",
    "machine",
]


class Finding(BaseModel):
    """Base of what is reported. Sources are names made safe to print: data, never paths."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    source: str = Field(
        description="Name of the file; empty when the finding is about all of them."
    )


class AcceptedImage(Finding):
    """A picture that is used."""

    image: str = Field(description="Path of the normalised picture, e.g. images/000.png.")
    thumbnail: str = Field(description="Path of its thumbnail.")
    caption: str = Field(description="Caption with {subject} filled in.")
    format: str = Field(description="Format of the file.")
    width_px: int
    height_px: int
    sharpness: float = Field(
        description="Variance of the Laplacian at training size, 0 to 255 grey."
    )
    mask: str = Field(default="", description="Path of its mask at training size, if it has one.")
    masked_thumbnail: str = Field(
        default="", description="Path of the picture with what is not learnt in one colour."
    )
    learnt_share: float = Field(default=1.0, description="How much of it is learnt, 0 to 1.")

    def caption_row(self) -> dict[str, str]:
        """Return its line of captions.jsonl; a mask is named where it has one."""
        fields = {"image", "caption", "source", *(("mask",) if self.mask else ())}
        return self.model_dump(include=fields)


class QuarantinedImage(Finding):
    """A file that is left out."""

    check: CheckName = Field(description="Which check it failed.")
    reason: str = Field(description="What is wrong with it; reads on from its name.")
    advice: str = Field(description="What its owner can do.")
    thumbnail: str = Field(
        default="", description="Path of its thumbnail, where it could be decoded."
    )
    other: str = Field(default="", description="The picture that it repeats, if it does.")


class DatasetWarning(Finding):
    """Something that may lower the quality of the result."""

    check: CheckName
    message: str = Field(description="What was found, with the value; reads on from the name.")
    advice: str = Field(description="What its owner can do.")
    other: str = Field(default="", description="The other picture, where it is about two.")


class DatasetRemark(Finding):
    """Something that was done with a picture and is nothing to worry about."""

    check: CheckName
    message: str = Field(description="What was done; reads on from the name.")


class DatasetReport(BaseModel):
    """All findings about one set of pictures."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    resolution_px: int
    identifier: str
    class_noun: str
    accepted: tuple[AcceptedImage, ...]
    quarantined: tuple[QuarantinedImage, ...]
    warnings: tuple[DatasetWarning, ...]
    remarks: tuple[DatasetRemark, ...] = ()

    def as_json(self) -> str:
        """Return the report as it is stored: without remarks and masks as before they existed."""
        plain = {i: set(MASK_FIELDS) for i, item in enumerate(self.accepted) if not item.mask}
        unset: dict[str, bool | dict[int, set[str]]] = {"accepted": plain}
        if not self.remarks:
            unset["remarks"] = True
        return self.model_dump_json(indent=2, exclude=unset) + "\n"

    def left_out(self) -> str:
        """Return in one line how many files were left out and why; empty where none was."""
        if not self.quarantined:
            return ""
        found = len(self.accepted) + len(self.quarantined)
        named = [f"{item.source} {item.reason}" for item in self.quarantined[:_MAX_NAMED]]
        if len(self.quarantined) > _MAX_NAMED:
            named.append(f"{len(self.quarantined) - _MAX_NAMED} more")
        return f"{len(self.quarantined)} of {found} pictures left out: {'; '.join(named)}"

    def verdict(self) -> str:
        """Return in one sentence whether all is well with the pictures."""
        used, bad = len(self.accepted), len(self.quarantined)
        parts = [f"{bad} left out" if bad else ""]
        if self.warnings:
            several = "s" if len(self.warnings) > 1 else ""
            parts.append(f"{len(self.warnings)} warning{several}")
        found = ", ".join(filter(None, parts)) or "no warnings"
        return f"{used} of {used + bad} pictures can be used; {found}."

    def ensure_usable(self, subject: SubjectConfig) -> None:
        """Check that enough pictures are left.

        Raises:
            DataError: fewer than `subject.min_images`; the message lists each bad file.
        """
        if len(self.accepted) >= subject.min_images:
            return
        found = len(self.accepted) + len(self.quarantined)
        bad = "".join(
            f"\n  - {item.source} {item.reason}. {item.advice}" for item in self.quarantined
        )
        used, least = len(self.accepted), subject.min_images
        several = "s" if least - used > 1 else ""
        more = f"dd {least - used} more different picture{several} of the subject"
        enough = f", or set subject.min_images to {used}, if that is enough" if used else ""
        if not bad:
            raise DataError(
                f"You have {used} picture{'s' if used != 1 else ''}; {least} are needed.",
                remedy=f"A{more}{enough}.",
            )
        raise DataError(
            f"Only {used} of {found} pictures can be used; {least} are needed. Left out:{bad}",
            remedy=f"\nRepair or replace them, or a{more}{enough}.",
        )
