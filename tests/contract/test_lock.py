"""The two ways to install, pip with constraints.txt and uv with uv.lock, install the same."""

from lock import locked, locked_requirements, pins, requirements


def test_lock_has_the_versions_of_the_constraints() -> None:
    wanted, found = pins(), locked()
    other = {name: found[name] for name in found.keys() & wanted if wanted[name] not in found[name]}
    assert not other, "run: make constraints"


def test_lock_is_of_the_project_as_it_is() -> None:
    assert locked_requirements() == requirements(), "run: make constraints"
