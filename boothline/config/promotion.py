"""`promotion`: the gate between challenger and champion."""

from pydantic import Field

from boothline.config.section import Section


class MetricMargins(Section):
    """Bounds of the promotion gate, in units of each score (cosine, -1 to 1)."""

    min_subject_gain: float = Field(
        default=0.02,
        ge=-2,
        le=2,
        description="Subject fidelity (DINO) must exceed the base by this.",
    )
    max_prompt_loss: float = Field(
        default=0.10,
        ge=0,
        le=2,
        description="Prompt fidelity (CLIP-T) may fall below the base by this.",
    )
    min_champion_gain: float = Field(
        default=0.0, ge=-2, le=2, description="Score must exceed the champion's by more than this."
    )


class PromotionConfig(Section):
    """The gate between challenger and champion."""

    enabled: bool = Field(default=True, description="Promote when the gate passes.")
    margins: MetricMargins = Field(default=MetricMargins(), description="Bounds of the gate.")
