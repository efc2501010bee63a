"""Links of the pages: those that lead out of docs/ exist, and lead to the repository."""

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from posixpath import relpath

ROOT = Path(__file__).resolve().parents[1]
DOCS = ROOT / "docs"
# Files of the repository that are pages of the site too.
PAGES = {
    "README.md": "index.md",
    "CHANGELOG.md": "changes.md",
    "CONTRIBUTING.md": "contributing.md",
    "CODE_OF_CONDUCT.md": "conduct.md",
}
_LINK = re.compile(r"(?P<image>!?)\[(?P<text>(?:[^\[\]]|\[[^\]]*\])*)\]\((?P<target>[^()\s]+)\)")
_DEFINITION = re.compile(r"^\[(?P<name>[^\]]+)\]: (?P<target>\S+)$", re.MULTILINE)
_CODE = re.compile(r"(^ *```.*?^ *```|`[^`\n]+`)", re.MULTILINE | re.DOTALL)


@dataclass
class Links:
    """Rewrites the links of one page.

    Attributes:
        source: the file that the page was written in.
        place: where the page stands in the site, as docs/ would have it.
        repository: address of the repository; empty: what leads there becomes plain text.
        broken: links whose target does not exist.
    """

    source: Path
    place: str
    repository: str = ""
    broken: list[str] = field(default_factory=list)

    def rewrite(self, text: str) -> str:
        """Return the page with its links; code is left as it is."""
        definitions = {m["name"]: self._target(m["target"]) for m in _DEFINITION.finditer(text)}
        for name in [name for name, target in definitions.items() if target is None]:
            text = re.sub(rf"\[([^\[\]]+)\]\[{re.escape(name)}\]", r"\1", text)
        parts = _CODE.split(text)
        parts[::2] = [_LINK.sub(self._inline, part) for part in parts[::2]]
        return _DEFINITION.sub(lambda match: self._definition(match, definitions), "".join(parts))

    def _definition(self, match: re.Match[str], definitions: Mapping[str, str | None]) -> str:
        target = definitions.get(match["name"])
        return f"[{match['name']}]: {target}" if target else ""

    def _inline(self, match: re.Match[str]) -> str:
        text = _LINK.sub(self._inline, match["text"])
        target = self._target(match["target"])
        return text if target is None else f"{match['image']}[{text}]({target})"

    def _target(self, target: str) -> str | None:
        """Return where a link leads on the site; None: nowhere."""
        path, hash_, anchor = target.partition("#")
        if not path or "://" in target or target.startswith("mailto:"):
            return target
        found = Path(os.path.normpath(self.source.parent / path))
        inside = found.is_relative_to(ROOT) and found.exists()
        if not inside:
            self.broken.append(target)
            return target
        name = found.relative_to(ROOT).as_posix()
        if name in PAGES:
            return relpath(PAGES[name], Path(self.place).parent) + hash_ + anchor
        if found.is_relative_to(DOCS):
            inner = found.relative_to(DOCS) / ("README.md" if found.is_dir() else "")
            return relpath(inner.as_posix(), Path(self.place).parent) + hash_ + anchor
        if self.repository:
            kind = "tree" if found.is_dir() else "blob"
            return f"{self.repository.rstrip('/')}/{kind}/main/{name}{hash_}{anchor}"
        return None
