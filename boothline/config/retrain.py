"""`retrain`: what makes `boothline retrain` train again."""

from pydantic import Field

from boothline.config.section import Section


class RetrainConfig(Section):
    """What makes `boothline retrain` train again; other commands ignore it."""

    on_new_data: bool = Field(
        default=True,
        description="Train when no registered version of the model was trained on these pictures "
        "(by digest, so that a renamed or re-saved equal picture set is not new).",
    )
    max_champion_age_days: float | None = Field(
        default=None,
        gt=0,
        le=36_500,
        description="Train when the champion became it longer ago than this, once in each such "
        "period; unset: never for age.",
    )
    min_champion_score: float | None = Field(
        default=None,
        ge=-1,
        le=1,
        description="Train when the score of the champion's evaluation is below this, once for "
        "each evaluation; unset: never for the score.",
    )
