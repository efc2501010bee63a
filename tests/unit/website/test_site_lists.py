"""Lists are read by Python-Markdown as GitHub reads them."""

import pytest
from markdown import markdown

from website.lists import reindent


@pytest.mark.parametrize(
    ("text", "result"),
    [
        ("a\n- b\n- c\n", "a\n\n- b\n- c\n"),
        ("- a\n  - b\n    c\n", "- a\n    - b\n        c\n"),
        ("1. a\n\n   b\n2. c\n", "1. a\n\n    b\n\n2. c\n"),
        (
            "1. a\n\n   ```\n   - x\n     y\n   ```\n",
            "1. a\n\n    ```\n    - x\n      y\n    ```\n",
        ),
        ("- a\n\nb\n", "- a\n\nb\n"),
        ("    code\n", "    code\n"),
        ("```\n- a\n  b\n```\n", "```\n- a\n  b\n```\n"),
    ],
)
def test_list_gets_four_spaces_a_level_and_an_empty_line_before_it(text: str, result: str) -> None:
    assert reindent(text) == result


def test_item_after_a_paragraph_of_another_item_is_an_item() -> None:
    html = markdown(reindent("1. a\n\n   b\n2. c\n   - d\n"))
    assert html.count("<li>") == 3
    assert html.count("<ol>") == 1
