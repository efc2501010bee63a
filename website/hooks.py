"""Hooks of mkdocs: pages from outside docs/, and links that lead out of it."""

import logging
from typing import Any

from mkdocs.structure.files import File, Files

from website import commands
from website.links import DOCS, PAGES, ROOT, Links
from website.lists import reindent

# The logger whose warnings `mkdocs build --strict` counts.
logger = logging.getLogger("mkdocs.hooks.website")


def on_files(files: Files, *, config: Any) -> Files:  # noqa: ANN401
    """Add the page of all commands and the pages of the repository's root."""
    files.append(File.generated(config, "commands.md", content=commands.page()))
    for name, place in PAGES.items():
        if place != "index.md":
            path = str(ROOT / name)
            files.append(File.generated(config, place, abs_src_path=path))
    return files


def on_page_markdown(text: str, *, page: Any, config: Any, **_: Any) -> str:  # noqa: ANN401
    """Rewrite the links of a page and warn of those that lead nowhere."""
    place = page.file.src_uri
    from_root = {target: ROOT / name for name, target in PAGES.items() if target != "index.md"}
    links = Links(
        source=from_root.get(place, DOCS / place),
        place=place,
        repository=config.extra.get("repository") or "",
    )
    rewritten = links.rewrite(text)
    for target in links.broken:
        logger.warning("%s links to %s, which does not exist", place, target)
    return reindent(rewritten)
