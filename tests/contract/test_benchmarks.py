"""The benchmarks can be started: their modules load, and the folders that they name are there."""

import pkgutil
from importlib import import_module
from pathlib import Path

import pytest

import benchmarks

MODULES = [module.name for module in pkgutil.iter_modules(benchmarks.__path__)]


@pytest.mark.parametrize("name", MODULES)
def test_benchmark_loads_and_names_folders_that_are_there(name: str) -> None:
    module = import_module(f"benchmarks.{name}")
    named = {key: value for key, value in vars(module).items() if isinstance(value, Path)}
    missing = {
        key: value for key, value in named.items() if value.is_absolute() and not value.exists()
    }
    assert not missing
