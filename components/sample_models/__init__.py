"""Step sample_models: samples the pictures that an evaluation compares, in shards."""

from boothline.catalogue import TORCH, Shards, StepDescription
from boothline.results import EvaluationShard

ABOUT = StepDescription(
    name="sample_models",
    place=60,
    image=TORCH,
    result=EvaluationShard,
    gives="samples",
    unit="picture",
    pipelines=("dreambooth", "retrain"),
    shards=Shards(
        setting="evaluation.num_shards", count=lambda config: config.evaluation.num_shards
    ),
    optional=True,
    verifies=True,
)
