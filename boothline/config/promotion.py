"""`promotion`: the gate between challenger and champion."""

from typing import Literal, Self

from pydantic import Field, model_validator

from boothline.config.section import Section

Statistic = Literal["mean", "low", "high"]
Metric = Literal["dino", "clip_i", "clip_t", "div", "pres", "score"]
Opponent = Literal["base", "champion", "none"]


class MetricMargins(Section):
    """Bounds of the gate's standing rules, in units of each score (cosine, -1 to 1)."""

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
    max_prior_loss: float | None = Field(
        default=0.35,
        ge=0,
        le=2,
        description="The likeness of class pictures to the subject (PRES) may exceed the base's by "
        "this; null: no such rule.",
    )
    max_diversity_loss: float | None = Field(
        default=0.45,
        ge=0,
        le=2,
        description="Diversity (DIV) may fall below the base by this; null: no such rule.",
    )
    statistic: Statistic = Field(
        default="low",
        description="Which statistic of a gain is compared with these margins: the lower bound of "
        "its 95 % interval (low), which demands them with confidence, its mean, or the upper bound "
        "(high). Of the rise of PRES it is the other bound.",
    )


class PromotionRule(Section):
    """One more rule of the gate."""

    metric: Metric = Field(
        description="dino, clip_i (subject fidelity), clip_t (prompt fidelity), div (diversity), "
        "pres (likeness of class pictures to the subject, lower is better) or score."
    )
    against: Opponent = Field(
        default="champion",
        description="base or champion: the gain over that model, paired picture by picture; "
        "none: the score itself. Without a champion a rule against it passes.",
    )
    statistic: Statistic = Field(
        default="mean",
        description="mean, or the lower (low) or upper (high) bound of the 95 % interval.",
    )
    at_least: float | None = Field(
        default=None, ge=-2, le=2, description="Refused below this; unset: no such bound."
    )
    at_most: float | None = Field(
        default=None, ge=-2, le=2, description="Refused above this; unset: no such bound."
    )

    @model_validator(mode="after")
    def _check(self) -> Self:
        if (self.at_least is None) == (self.at_most is None):
            raise ValueError(
                f"promotion.rules: the rule on {self.metric} must set either at_least or at_most; "
                "write two rules for a range"
            )
        if self.metric == "pres" and self.against != "none":
            raise ValueError(
                "promotion.rules: pres has no paired gain; set against: none and at_most"
            )
        return self


class PromotionConfig(Section):
    """The gate between challenger and champion."""

    enabled: bool = Field(default=True, description="Promote when the gate passes.")
    margins: MetricMargins = Field(
        default=MetricMargins(), description="Bounds of the rules that the gate always has."
    )
    rules: tuple[PromotionRule, ...] = Field(
        default=(),
        max_length=50,
        description="Further rules, all of which must pass: metric, against (base, champion or "
        "none), statistic (mean, low or high) and at_least or at_most. `{metric: clip_t, against: "
        "champion, statistic: low, at_least: -0.02}` is 'no worse than 0.02, with confidence'.",
    )
