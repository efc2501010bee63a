"""Three ranks of the product, over gloo, against the reference, which knows no ranks."""

import pytest
from reference.comparing import distance
from reference.matrix import FACTORS, case_of
from reference.product import in_float64, reference_of, run_ranks, trained

TOLERANCE = 1e-6
# Last value of every factor, but for what hides something.
EVERYTHING = {name: len(values) - 1 for name, values in FACTORS.items()}


@pytest.mark.slow
@pytest.mark.parametrize("method", [0, 1])
def test_training_with_three_ranks_equals_the_reference(make_job, warm, method) -> None:
    row = {**EVERYTHING, "method": method, "clipping": 1, "warm-up": 1}
    job = make_job(**{**case_of(row), "batch_size": 6}, world_size=3)
    run_ranks(job, warm)
    with in_float64():
        wanted = reference_of(job).run()
    weights, average = trained(job)
    assert distance(weights, wanted.weights, start=wanted.start) <= TOLERANCE
    assert distance(average, wanted.average, start=wanted.start) <= TOLERANCE
