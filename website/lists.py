"""Lists as Python-Markdown reads them: four spaces a level, and an empty line before the first."""

import re

_ITEM = re.compile(r"^(?P<indent> *)(?P<mark>[-*]|\d+\.)(?P<gap> +)(?=\S)")
_FENCE = re.compile(r"^ *(```|~~~)")
_WIDTH = 4


def reindent(text: str) -> str:
    """Return a page whose lists are indented by four spaces a level.

    GitHub's Markdown takes what stands below an item's text for a part of it; Python-Markdown
    counts columns.
    """
    result: list[str] = []
    levels: list[int] = []  # columns at which the text of the open items begins
    fenced = False
    is_list = False  # whether the lines since the last empty one began with an item
    for line in text.splitlines():
        item = None if fenced else _ITEM.match(line)
        indent = len(line) - len(line.lstrip(" "))
        if line.strip() and not fenced:
            _close(levels, indent, lazy=not item and bool(result and result[-1].strip()))
        if not (result and result[-1]):
            is_list = bool(item)
        elif item and not is_list:
            result.append("")
            is_list = True
        inner = max(indent - levels[-1], 0) if levels else indent
        margin = _WIDTH * len(levels) if levels else 0
        result.append(" " * (margin + inner) + line.lstrip(" ") if line.strip() else "")
        if item:
            levels.append(item.end())
        if _FENCE.match(line):
            fenced = not fenced
    return "\n".join(result) + "\n"


def _close(levels: list[int], indent: int, *, lazy: bool) -> None:
    """Close the items that a line which begins at a column is no part of."""
    while levels and indent < levels[-1] and not lazy:
        levels.pop()
