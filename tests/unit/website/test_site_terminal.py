"""A terminal becomes an SVG that fetches nothing."""

from xml.etree import ElementTree

import pyte

from website.terminal import svg


def test_terminal_as_svg_has_its_text_and_colours_and_no_path_of_the_machine() -> None:
    shown = pyte.Screen(40, 5)
    pyte.Stream(shown).feed("train  \x1b[32mdone\x1b[0m & more\r\nReport: /srv/demo/report.html")
    text = svg(shown, typed="boothline demo", replaced={"/srv/demo/": ""})

    root = ElementTree.fromstring(text)  # noqa: S314  (our own text)
    words = "".join(root.itertext()).replace("\N{NO-BREAK SPACE}", " ")
    for part in ("$ boothline demo", "done", "& more", "Report: report.html"):
        assert part in words
    assert "/srv" not in text
    assert "url(http" not in text
    assert "@font-face" not in text
    assert ">done</text>" in text  # in a style of its own
