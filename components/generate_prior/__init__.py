"""Step `generate_prior`: samples class pictures from the base model."""

from boothline.catalogue import TORCH, Shards, StepDescription
from boothline.results import Prior

ABOUT = StepDescription(
    name="generate_prior",
    place=30,
    image=TORCH,
    result=Prior,
    unit="picture",
    shards=Shards(
        argument="prior_shards",
        count=lambda config: config.prior.num_shards if config.prior.enabled else 1,
    ),
)
