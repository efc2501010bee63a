"""The tests of this folder belong to the contract of the store: they run on every server."""

import pytest
import s3_servers

pytest_generate_tests = s3_servers.on_every_server


@pytest.fixture(autouse=True)
def skip_what_the_server_lacks(request: pytest.FixtureRequest) -> None:
    """Skip a test that needs what this server lacks, and say so as the doctor does."""
    s3_servers.skip_for_lack(request)
