"""Fixtures shared by all tests."""

pytest_plugins = [
    "service_fixtures",
    "family_fixtures",
    "model_fixtures",
    "picture_fixtures",
    "browser_fixtures",
    "fault_figures",
]
