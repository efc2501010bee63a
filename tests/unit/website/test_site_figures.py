"""Figures in the pages are those that benchmarks measured."""

import json

import pytest

from website import figures


def test_figures_of_the_pages_are_those_of_the_benchmarks() -> None:
    known = figures.figures()
    for page in figures.pages():
        text = page.read_text(encoding="utf-8")
        assert figures.filled(text, known) == text, "run `make docs`"


def test_figures_name_their_command_date_and_machine() -> None:
    for path in figures.FOLDER.glob("*.json"):
        kept = json.loads(path.read_text(encoding="utf-8"))
        assert kept.keys() >= {"title", "command", "date", "machine", "rows"}, path.name


def test_figure_and_table_are_written_between_their_marks() -> None:
    known = {"memory.lora.mib": "651", "memory": "\n\n| a |\n"}
    text = "It needs <!--=memory.lora.mib-->1<!--/--> MiB.\n<!--=memory-->\n<!--/-->\n"
    assert figures.filled(text, known) == (
        "It needs <!--=memory.lora.mib-->651<!--/--> MiB.\n<!--=memory-->\n\n| a |\n<!--/-->\n"
    )
    assert figures.table([{"way": "LoRA", "MiB": 651, "%": -1.40}]) == (
        "| way | MiB | % |\n| --- | --- | --- |\n| LoRA | 651 | -1.4 |\n"
    )


def test_figure_that_no_benchmark_has_is_named() -> None:
    with pytest.raises(KeyError, match=r"memory\.nothing"):
        figures.filled("<!--=memory.nothing-->1<!--/-->", {})
