"""A training that is asked to stop in its middle."""

from boothline.training.ranks import Requests


class StopAfter(Requests):
    """Asks to stop when its rank has reported a number of steps."""

    def __init__(self, reports: int) -> None:
        self._left = reports
        super().__init__()

    @property
    def stop(self) -> bool:
        self._left -= 1
        return self._left < 0

    @stop.setter
    def stop(self, value: bool) -> None:
        assert not value
