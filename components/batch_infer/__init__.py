"""Step `batch_infer`: makes the pictures that a prompt file asks for."""

from boothline.catalogue import TORCH, Shards, StepDescription
from boothline.results import Images

ABOUT = StepDescription(
    name="batch_infer",
    place=100,
    image=TORCH,
    result=Images,
    unit="picture",
    runs="promoted",
    shards=Shards(argument="inference_shards", count=lambda config: config.inference.num_shards),
)
