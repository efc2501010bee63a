"""Starts diffusers' own DreamBooth script from a checkout, as it is.

The script imports torchvision, of which there is no CPU build: the CUDA build imports once the two
operators that it registers kernels for are declared. Only this launcher does so, never the product.

    python -m benchmarks.peer CHECKOUT/examples/dreambooth/train_dreambooth.py ARGUMENTS
"""

import runpy
import sys

import torch

_OPERATORS = ("nms", "qnms")


def _declare_operators() -> torch.library.Library | None:
    """Declare the operators that torchvision's compiled part would bring, if it has not."""
    if hasattr(torch.ops.torchvision, _OPERATORS[0]):
        return None
    library = torch.library.Library("torchvision", "DEF")  # type: ignore[no-untyped-call]
    for name in _OPERATORS:
        signature = f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor"
        library.define(signature)  # type: ignore[no-untyped-call]
    return library


def run_script(script: str, arguments: list[str]) -> None:
    """Run a script of the checkout in this process."""
    library = _declare_operators()
    sys.argv = [script, *arguments]
    runpy.run_path(script, run_name="__main__")
    del library


if __name__ == "__main__":
    run_script(sys.argv[1], sys.argv[2:])
