"""`python -m reference.ranks_program JOB.json`: all ranks of a job, float64, without a store."""

import os
import sys
from pathlib import Path

from reference.product import in_float64, without_store

from boothline.training import elastic

if __name__ == "__main__":
    with in_float64(), without_store():
        sys.exit(elastic.start(os.getppid(), Path(sys.argv[1]), configure=elastic.one_machine))
