"""`prior`: the class pictures."""

from pydantic import Field

from boothline.config.sampling import SamplingConfig
from boothline.config.section import Section


class PriorConfig(Section):
    """The class prior: pictures of the class, sampled from the base model."""

    enabled: bool = Field(default=True, description="Use prior preservation.")
    num_images: int = Field(
        default=32,
        ge=1,
        le=100_000,
        description="Class pictures. Those of your own (`reg/` among the pictures) count; "
        "the rest is sampled.",
    )
    prompt: str = Field(
        default="a photo of a {class}",
        max_length=300,
        description="Prompt of the class pictures; {class} is the class noun. "
        "Ignored when prompts is set.",
    )
    prompts: tuple[str, ...] = Field(
        default=(),
        description="Prompts used in turn (picture i takes prompt i modulo their number).",
    )
    weight: float = Field(default=1.0, ge=0, le=100, description="Weight of the prior loss.")
    num_shards: int = Field(default=2, ge=1, le=256, description="Parallel shards.")
    sampling: SamplingConfig = Field(
        default=SamplingConfig(), description="Sampling of class pictures."
    )

    def num_sampled(self, num_own: int) -> int:
        """Return how many class pictures are sampled where the dataset holds some of its own."""
        return max(self.num_images - num_own, 0) if self.enabled else 0

    def prompt_of(self, index: int, class_noun: str) -> str:
        """Return the prompt of class picture `index`."""
        prompts = self.prompts or (self.prompt,)
        return prompts[index % len(prompts)].replace("{class}", class_noun)
