"""Where a setting in a step's key makes no difference, or none that can be seen here, and why."""

from collections.abc import Mapping

_ROUNDING = "other batches differ by rounding at most, and on this machine not at all"
SAME: Mapping[tuple[str, str, tuple[object, object]], str] = {
    ("sample_models", "prior.sampling.batch_size", (2, 3)): _ROUNDING,
    ("evaluate", "prior.sampling.batch_size", (2, 3)): _ROUNDING,
    ("evaluate", "evaluation.sampling.batch_size", (2, 3)): _ROUNDING,
    ("batch_infer", "inference.sampling.batch_size", (2, 3)): _ROUNDING,
    ("batch_infer", "inference.sampling.sampler", ("ddim", "euler")): (
        "DDIM that draws nothing takes Euler's steps; only the last digits differ"
    ),
    ("train", "evaluation.sampling.batch_size", (2, 3)): "a sheet of two pictures is one batch",
    ("train", "training.gradient_checkpointing", (False, True)): (
        "what is computed again is the same on a CPU"
    ),
    ("train", "training.frozen_precision", ("fp32", "bf16")): (
        "the weights are rounded to bf16 before they are computed with in any case"
    ),
    **{
        ("train", "evaluation.sampling.precision", pair): (
            "its sheets are drawn in the precision of the training"
        )
        for pair in (("fp32", "bf16"), ("fp32", "fp16"), ("bf16", "fp16"))
    },
}
"""Settings in the key of a step, and two values that give the same bits here."""

UNDECIDED: Mapping[tuple[str, str, tuple[object, object]], str] = {
    ("batch_infer", "inference.sampling.sampler", ("ddpm", "euler_a")): (
        "ancestral Euler takes DDPM's steps: the processor's last digits decide the pictures' bytes"
    ),
}
"""Settings in the key of a step, and two values that give the same bits on some machines."""

REFUSED: Mapping[tuple[str, str, object], str] = {
    ("validate_data", "subject.min_images", 6): "five pictures are too few for it",
    ("publish_checkpoint", "base_model.source", "other-base"): "the training has another base",
    ("train", "training.optimizer", "adamw8bit"): "needs CUDA",
    ("train", "training.precision", "fp16"): "needs CUDA",
    ("train", "training.frozen_precision", "nf4"): "needs CUDA",
    **{
        (step, f"{section}.sampling.precision", "fp16"): "needs CUDA"
        for step, section in (
            ("generate_prior", "prior"),
            ("sample_models", "evaluation"),
            ("evaluate", "evaluation"),
            ("batch_infer", "inference"),
        )
    },
}
"""Values that a step refuses here."""

UNTRIED: Mapping[tuple[str, str], str] = {
    ("train", "training.compile"): (
        "tests/integration/training/test_training_run.py::"
        "test_training_compiled_resumes_to_the_same_bits"
    ),
    ("train", "training.num_processes"): (
        "tests/reference/test_reference_ranks.py::"
        "test_training_with_three_ranks_equals_the_reference"
    ),
    # It is for flow matching, and the base here has a noise schedule.
    ("train", "training.timestep_density"): (
        "tests/reference/test_reference_families.py::test_training_of_a_family_equals_the_reference"
    ),
}
"""Settings whose other value takes too long or more processes; their own tests try it."""
