"""The instance pictures that validation holds out must leave some to train on; without torch."""

from boothline.errors import ConfigError


def ensure_some_left(*, hold_out: int, num_pictures: int) -> None:
    """Check that a training has pictures left.

    Args:
        hold_out: `training.validation.hold_out`.
        num_pictures: instance pictures, each as often as it stands in an epoch.

    Raises:
        ConfigError: it has none.
    """
    if num_pictures <= hold_out:
        raise ConfigError(
            f"training.validation.hold_out ({hold_out}) leaves none of {num_pictures} instance "
            "pictures to train on.",
            remedy="Hold out fewer pictures, or add some.",
        )
