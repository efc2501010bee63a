"""What the code says to people is written out for Vale, line by line."""

import importlib.util
from pathlib import Path

FILE = Path(__file__).resolve().parents[3] / "styles" / "messages.py"
SPEC = importlib.util.spec_from_file_location("messages", FILE)
assert SPEC is not None
assert SPEC.loader is not None
messages = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(messages)

SOURCE = '''"""A docstring of the module."""
NAME = "word"
print("two words", f"{NAME} is no name of {NAME!r:>3}")


def f():
    """A docstring."""
    return (
        "over "
        "two lines"
    )
'''


def test_messages_stand_on_their_line_without_docstrings_and_single_words() -> None:
    assert messages.page(SOURCE).splitlines() == [
        "",
        "",
        "is no name of two words",
        *[""] * 5,
        "over two lines",
        *[""] * 2,
    ]
