"""One lab for all tests of a session."""

import pytest
from sensitivity.lab import Lab


@pytest.fixture(scope="session")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Lab:
    """The steps on tiny random models, with a store in memory."""
    return Lab(tmp_path_factory.mktemp("lab"))
