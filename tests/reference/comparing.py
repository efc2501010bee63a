"""How far two trainings are apart, as a fraction of the way that the weights went."""

from reference.inputs import Tensors

QUIET = 1e-3


def distance(found: Tensors, wanted: Tensors, *, start: Tensors) -> float:
    """Return the largest error of a tensor, relative to its update.

    The error of a tensor is |found - wanted| / |wanted - start|, in the 2-norm: relative to the
    weights, whose updates are a thousandth of them, a missing term would hardly show; and of all
    tensors together a small one (a bias, the text encoder) could err unseen. Where a tensor's
    gradient is zero by construction (the bias of the keys, to which softmax is blind), the update
    is rounding alone: a thousandth of the mean update per weight stands in for it.
    """
    assert found.keys() == wanted.keys() == start.keys()
    moved = {name: wanted[name].double() - start[name] for name in wanted}
    numbers = sum(m.numel() for m in moved.values())
    mean = (sum(float(m.square().sum()) for m in moved.values()) / numbers) ** 0.5
    return max(
        float((found[name].double() - wanted[name]).norm())
        / max(float(m.norm()), QUIET * mean * m.numel() ** 0.5)
        for name, m in moved.items()
    )
