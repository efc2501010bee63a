import re
from dataclasses import replace
from html.parser import HTMLParser
from itertools import pairwise

import pytest

from boothline.report.model import (
    Comparison,
    Comparisons,
    DataFinding,
    FailureNote,
    Gallery,
    Lineage,
    LineageNode,
    Picture,
    Rule,
    RunReport,
    StepLine,
    Subject,
    Verdict,
)
from boothline.report.render import render, script_digest

HOSTILE = "</script></style><img src=x onerror=alert(1)>\"'&{{ 7 * 7 }}"


def page(**changes) -> str:
    values = {
        "run_id": "20261122-093000-1a2b",
        "pipeline": "dreambooth",
        "profile": "local",
        "status": "running",
        "created_at": 1_795_340_000.0,
        "seconds": 0.0,
        "verdict": Verdict(tone="busy", word="Running", title="It runs"),
        "subject": Subject(
            name="bear", identifier="sks", class_noun="bear", model_name="m", base_model="b"
        ),
    }
    return render(RunReport(**{**values, **changes}))


def hostile_page() -> str:
    picture = Picture(
        source="data:image/png;base64,AAAA", alt=HOSTILE, caption=HOSTILE, width_px=1, height_px=1
    )
    gallery = Gallery(pictures=(picture,), total=1)
    note = FailureNote(
        step=HOSTILE, kind=HOSTILE, message=HOSTILE, remedy=HOSTILE, resume_command=HOSTILE
    )
    finding = DataFinding(source=HOSTILE, message=HOSTILE, advice=HOSTILE, thumbnail=picture)
    return page(
        run_id=HOSTILE,
        verdict=Verdict(
            tone="bad",
            word=HOSTILE,
            title=HOSTILE,
            sentences=(HOSTILE,),
            rules=(Rule(name=HOSTILE, passed=False, text=HOSTILE),),
            failures=(note,),
        ),
        subject=Subject(
            name=HOSTILE,
            identifier=HOSTILE,
            class_noun=HOSTILE,
            model_name=HOSTILE,
            base_model=HOSTILE,
            pictures=gallery,
            quarantined=(finding,),
            warnings=(finding,),
        ),
        comparisons=Comparisons(
            rows=(Comparison(prompt=HOSTILE, columns=((HOSTILE, gallery),)),), num_prompts=1
        ),
        batch=gallery,
        steps=(StepLine(label=HOSTILE, status="done", seconds=1.0, reused=False),),
        lineage=Lineage(
            nodes=(
                LineageNode(
                    digest="0" * 64,
                    path=HOSTILE,
                    kind=HOSTILE,
                    uri=HOSTILE,
                    num_files=1,
                    size_bytes=1,
                    created_at=HOSTILE,
                    content_digest="1" * 64,
                ),
            )
        ),
        changed_settings=((HOSTILE, HOSTILE, HOSTILE),),
        config_yaml=HOSTILE,
        environment=((HOSTILE, HOSTILE),),
        notices=(HOSTILE,),
    )


class Outline(HTMLParser):
    """Collects what the tests look at."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def named(self, *names: str) -> list[tuple[str, dict[str, str | None]]]:
        return [found for found in self.tags if found[0] in names]


def test_page_escapes_everything_that_people_write() -> None:
    html = hostile_page()

    outline = Outline(html)
    assert "<img src=x" not in html
    assert "{{ 7 * 7 }}" in html
    assert len(outline.named("script")) == 1
    assert all("onerror" not in attributes for _, attributes in outline.tags)


def test_page_allows_only_its_own_script() -> None:
    html = page()

    (policy,) = re.findall(r'Content-Security-Policy" content="([^"]*)"', html)
    (script,) = re.findall(r"<script>(.*?)</script>", html, re.S)
    assert "default-src 'none'" in policy
    assert f"script-src '{script_digest(script)}';" in policy


def test_script_digest_is_that_of_the_policy_standard() -> None:
    empty = "47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU="

    assert script_digest("") == f"sha256-{empty}"


def test_page_refers_to_nothing_outside_itself() -> None:
    html = hostile_page()

    references = [
        value
        for _, attributes in Outline(html).tags
        for name, value in attributes.items()
        if name in {"src", "href", "srcset", "action", "poster", "data"} and value
    ]
    assert references
    assert all(value.startswith(("data:", "#")) for value in references)
    assert "url(" not in html
    assert "@import" not in html


@pytest.mark.parametrize("make", [page, hostile_page])
def test_page_links_lead_to_parts_that_exist(make) -> None:
    tags = Outline(make()).tags
    ids = [attributes["id"] for _, attributes in tags if "id" in attributes]

    targets = {
        attributes["href"][1:]
        for tag, attributes in tags
        if tag == "a" and (attributes.get("href") or "").startswith("#")
    }
    assert len(ids) == len(set(ids))
    assert targets <= set(ids)


@pytest.mark.parametrize("make", [page, hostile_page])
def test_page_headings_never_skip_a_level(make) -> None:
    levels = [int(tag[1]) for tag, _ in Outline(make()).named("h1", "h2", "h3", "h4")]

    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(after <= before + 1 for before, after in pairwise(levels))


def test_page_has_language_title_and_a_text_for_each_picture() -> None:
    outline = Outline(hostile_page())

    assert outline.named("html")[0][1]["lang"] == "en"
    assert outline.named("title")
    assert outline.named("img")
    assert all(attributes.get("alt") for _, attributes in outline.named("img"))


def test_page_says_what_was_left_out() -> None:
    picture = Picture(source="data:,", alt="a", caption="c", width_px=1, height_px=1)

    html = page(batch=Gallery(pictures=(picture,), total=500))

    assert "1 of 500 pictures shown; 499 left out" in html


def test_page_names_the_command_that_exports_a_registered_model() -> None:
    subject = Subject(
        name="bear", identifier="sks", class_noun="bear", model_name="m", base_model="b"
    )
    assert "boothline export" not in page(subject=subject)

    shown = page(subject=replace(subject, registered="m@3"))

    assert "boothline export m@3 DIR --format diffusers" in shown
    assert 'href="#export"' in shown
