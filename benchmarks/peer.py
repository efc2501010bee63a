"""Starts diffusers' own DreamBooth script from a checkout, as it is.

The script imports torchvision, of which PyPI has no CPU build. Where the libraries of the CUDA
build do not load, it imports once the two operators that it registers kernels for are declared.
Only this launcher does so, never the product.

    python -m benchmarks.peer CHECKOUT/examples/dreambooth/train_dreambooth.py ARGUMENTS
"""

import runpy
import sys
from importlib import import_module

import torch

_OPERATORS = ("nms", "qnms")


def _declare_operators() -> torch.library.Library | None:
    """Declare the operators that torchvision's compiled part would bring, if it does not load."""
    try:
        import_module("torchvision")
    except RuntimeError:  # operator torchvision::nms does not exist
        sys.modules.pop("torchvision", None)
    else:
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
