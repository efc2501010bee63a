"""`make bench-growth`: time and memory of the class prior for 10, 1,000 and 10,000 pictures."""

import argparse
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from benchmarks.measuring import measure, print_table, tell
from benchmarks.training_task import environment
from boothline import services
from boothline.config import RunConfig

SHARD = """
import sys
from boothline.components.generate_prior import step
step.run(run_id="growth", config=sys.argv[1], shard=0)
"""


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--counts", type=int, nargs="+", default=[10, 1_000, 10_000])
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args(arguments)
    rows = []
    with tempfile.TemporaryDirectory(prefix="boothline-bench-") as scratch:
        home = Path(scratch)
        endpoints = services.ensure(home, only=("seaweedfs",))
        try:
            for seed, count in enumerate(options.counts):  # another seed: nothing is reused
                config = RunConfig.model_validate(
                    {
                        "prior": {
                            "num_images": count,
                            "num_shards": 1,
                            "sampling": {"num_steps": 2, "guidance_scale": 1.0, "seed": seed},
                        }
                    }
                )
                run = measure(
                    [sys.executable, "-c", SHARD, config.model_dump_json()],
                    environment=environment(threads=options.threads, more=endpoints.environment()),
                )
                rows.append(
                    {
                        "pictures": count,
                        "seconds": run.seconds,
                        "ms a picture": 1000 * run.seconds / count,
                        "peak MiB": round(run.peak_bytes / 2**20),
                    }
                )
                tell(str(rows[-1]))
        finally:
            services.stop(home)
    print_table("Class prior, 2 sampling steps without guidance, one shard", rows)


if __name__ == "__main__":
    main()
