import io
from itertools import pairwise

import pytest
from rich.console import Console

from boothline.cli import printing
from boothline.cli.printing import column_widths, console, say_table
from boothline.cli.summaries import say_models, say_trials
from boothline.launch.local.summary import Summary, TrialSummary
from boothline.launch.registered import ListedVersion

DAY = 86400.0


def printed(say, *, width: int) -> list[str]:
    target = Console(file=io.StringIO(), width=width)
    say(target)
    return target.file.getvalue().splitlines()


def version(number: int, **values: object) -> ListedVersion:
    return ListedVersion.model_validate(
        {
            "name": "boothline-teddy-bear",
            "version": number,
            "alias": "",
            "digest": f"{number:064x}",
            "verdict": "promoted",
            "scores": {"score": 0.5, "dino": 0.25, "clip_t": 0.75},
            "created_at": 10 * DAY,
            **values,
        }
    )


def test_models_at_80_columns_have_one_line_a_version():
    listed = [
        version(1, alias="champion", champion_since=15 * DAY),
        version(2, alias="challenger", verdict="refused"),
        version(1, name="boothline-toy-robot"),
    ]

    lines = printed(lambda target: say_models(target, listed, now=20 * DAY), width=80)

    assert [line.rstrip() for line in lines] == [
        "boothline-teddy-bear: version 1 is champion for 5 days",
        "Version  Alias       Score  DINO   CLIP-T  Gate      Age      Digest",
        "1        champion    0.500  0.250  0.750   promoted  10 days  000000000000",
        "2        challenger  0.500  0.250  0.750   refused   10 days  000000000000",
        "",
        "boothline-toy-robot",
        "Version  Alias  Score  DINO   CLIP-T  Gate      Age      Digest",
        "1               0.500  0.250  0.750   promoted  10 days  000000000000",
    ]


def test_models_without_any_say_so():
    assert printed(lambda target: say_models(target, [], now=0), width=80) == [
        "No model is registered yet."
    ]


def test_leaderboard_at_80_columns_breaks_no_word():
    scores = {name: 0.12345 for name in ("dino", "clip_i", "clip_t", "pres", "div", "score")}
    settings = "training.learning_rate=0.0002, training.num_steps=120"
    trial = {"trial": 0, "settings": settings, "scores": scores}
    summary = Summary.model_construct(trials=[TrialSummary.model_validate(trial)])

    words = " ".join(printed(lambda target: say_trials(target, summary), width=80)).split()

    assert {"learning_rate=0.0002,", "num_steps=120", "0.123"} <= set(words)


@pytest.mark.parametrize("width", [40, 80, 200])
def test_table_wraps_long_cells_between_words_and_keeps_short_ones_whole(width):
    sentence = "The pictures are new: none of two versions was trained on them."
    rows = [("new_data", "fired", "20261122-173739-ad3f", sentence)]

    lines = printed(
        lambda target: say_table(target, ("Trigger", "State", "By", "Why"), rows), width=width
    )

    assert max(len(line.rstrip()) for line in lines) <= width
    words = " ".join(lines).split()
    if width >= 80:
        assert {"new_data", "fired", "20261122-173739-ad3f", *sentence.split()} <= set(words)
    if width == 200:
        assert len(lines) == 2


def test_column_widths_take_from_the_widest_column_first_and_break_words_last():
    rows = [("one", "two words of text", "abcdefghij")]

    assert column_widths(rows, 100) == [3, 17, 10]
    assert column_widths(rows, 25) == [3, 12, 10]
    assert column_widths(rows, 18) == [3, 5, 10]
    assert column_widths(rows, 12) == [3, 4, 5]
    narrower = [sum(column_widths(rows, room)) for room in range(30, 2, -1)]
    assert all(before - after <= 1 for before, after in pairwise(narrower))


@pytest.mark.parametrize(
    ("columns", "expected"), [("", printing._PIPE_COLUMNS), ("80", 80)], ids=["pipe", "COLUMNS"]
)
def test_console_into_a_pipe_wraps_only_at_columns_that_were_asked_for(
    monkeypatch, columns, expected
):
    monkeypatch.setenv("COLUMNS", columns)
    monkeypatch.setattr("sys.stdout", io.StringIO())

    assert console().width == expected
