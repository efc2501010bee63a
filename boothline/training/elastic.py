"""torchrun that ends with its parent: `python -m boothline.training.elastic PARENT OPTIONS`."""

import os
import signal
import sys

from torch.distributed.run import main

from boothline.training.requests import die_with_parent


def start(arguments: list[str]) -> None:
    """Run torchrun with the given arguments, the first being the expected parent's process id."""
    parent, *options = arguments
    die_with_parent(signal.SIGTERM)
    if os.getppid() != int(parent):
        sys.exit("the process that started this training is gone")
    main(options)


if __name__ == "__main__":
    start(sys.argv[1:])
