"""Links of the site's pages: kept, led to the repository, dropped, or named as broken."""

import pytest

from website.links import DOCS, ROOT, Links

ADDRESS = "https://host.example/boothline"


def rewritten(text: str, *, page: str = "guide.md", repository: str = "") -> str:
    links = Links(source=DOCS / page, place=page, repository=repository)
    found = links.rewrite(text)
    assert links.broken == []
    return found


@pytest.mark.parametrize(
    "text",
    [
        "[a](training.md#masks)",
        "[a](#here)",
        "[a](https://host.example/x)",
        "![a](pictures/demo.png)",
        "`[a](../nowhere.md)` and\n\n```\n[a](../nowhere.md)\n```\n",
    ],
)
def test_link_within_docs_elsewhere_or_in_code_is_kept(text: str) -> None:
    assert rewritten(text) == text


def test_link_out_of_docs_leads_to_the_repository_where_its_address_is_known() -> None:
    text = "[yes](../tests/walls.py#L1), [examples](../examples/)"
    assert rewritten(text) == "yes, examples"
    assert rewritten(text, repository=ADDRESS) == (
        f"[yes]({ADDRESS}/blob/main/tests/walls.py#L1), [examples]({ADDRESS}/tree/main/examples)"
    )


def test_link_by_name_leads_to_the_repository_or_becomes_text() -> None:
    text = "[yes][t], [no][u]\n\n[t]: ../tests/walls.py\n[u]: memory.md"
    assert rewritten(text) == "yes, [no][u]\n\n\n[u]: memory.md"
    assert rewritten(text, repository=ADDRESS) == (
        f"[yes][t], [no][u]\n\n[t]: {ADDRESS}/blob/main/tests/walls.py\n[u]: memory.md"
    )


def test_link_to_a_page_of_the_root_leads_to_its_place_on_the_site() -> None:
    assert rewritten("[c](../CHANGELOG.md)") == "[c](changes.md)"
    assert rewritten("[r](../../README.md#licence)", page="adr/README.md") == (
        "[r](../index.md#licence)"
    )


def test_link_from_a_page_of_the_root_leads_into_docs() -> None:
    links = Links(source=ROOT / "CONTRIBUTING.md", place="contributing.md")
    assert links.rewrite("[a](docs/testing.md), [b](docs/adr/)") == (
        "[a](testing.md), [b](adr/README.md)"
    )


@pytest.mark.parametrize("target", ["../tests/nothing.py", "nothing.md", "../../outside.md"])
def test_link_to_nothing_is_named(target: str) -> None:
    links = Links(source=DOCS / "guide.md", place="guide.md", repository=ADDRESS)
    links.rewrite(f"[a]({target})")
    assert links.broken == [target]
