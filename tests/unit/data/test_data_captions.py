"""Captions as other trainers write them: each is read, or said to be lost."""

import json
import unicodedata
from pathlib import Path

import pytest
from model_fixtures import make_tiny_tokenizer

from boothline.config.subject import SubjectConfig
from boothline.data import DatasetReport, examine
from boothline.data.captions import MAX_CAPTION_CHARACTERS, read_caption

ZEBRA = "a photo of {subject} as a zebra"
FAMILY = "\N{MAN}\u200d\N{WOMAN}\u200d\N{GIRL}"


@pytest.fixture
def source(tmp_path, make_picture) -> Path:
    folder = tmp_path / "pictures"
    folder.mkdir()
    for seed in range(3):
        make_picture(seed).save(folder / f"{seed}.png")
    return folder


@pytest.fixture
def examined(tmp_path, source, no_services):
    def run(**options: object) -> DatasetReport:
        return examine(
            SubjectConfig(images=str(source), resolution_px=64),
            output=tmp_path / "dataset",
            settings=no_services,
            **options,
        )

    return run


def _caption(report: DatasetReport, source: str) -> str:
    return next(item.caption for item in report.accepted if item.source == source)


def _row(**values: str) -> str:
    return json.dumps(values) + "\n"


@pytest.mark.proves("F60/captions")
@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("0.txt", ZEBRA),
        ("0.TXT", ZEBRA),
        ("0.caption", ZEBRA),
        ("0.png.txt", ZEBRA),
        ("0.png.caption", ZEBRA),
        ("metadata.jsonl", _row(file_name="0.png", text=ZEBRA)),
        ("metadata.jsonl", _row(file_name="0.png", caption=ZEBRA)),
        ("metadata.jsonl", _row(file_name="./0.png", prompt=ZEBRA)),
        ("metadata.jsonl", _row(file_name="0.png", additional_feature=ZEBRA)),
        ("metadata.csv", f"file_name,text\n0.png,{ZEBRA}\n"),
        ("metadata.csv", f"\ufefffile_name,text\r\n0.png,{ZEBRA}\r\n"),
        ("captions.csv", f'image,caption\n0.png,"{ZEBRA}"\n'),
        ("captions.jsonl", _row(image="0.png", caption=ZEBRA)),
        ("metadata.jsonl", _row(file_name="0.PNG", text=ZEBRA)),
    ],
)
def test_examine_reads_captions_in_every_common_form(source, examined, name, text):
    (source / name).write_text(text, encoding="utf-8", newline="")
    report = examined()
    assert _caption(report, "0.png") == "a photo of sks bear as a zebra"
    assert _caption(report, "1.png") == "a photo of sks bear"
    assert report.warnings == ()


@pytest.mark.parametrize("picture", ["NFC", "NFD"])
@pytest.mark.parametrize("name", ["möwe.txt", "MÖWE.txt", "Möwe.caption", "möwe.png.txt", "table"])
def test_examine_compares_names_whatever_their_spelling(
    source, examined, make_picture, picture, name
):
    make_picture(9).save(source / unicodedata.normalize(picture, "möwe.png"))
    other = "NFC" if picture == "NFD" else "NFD"
    if name == "table":
        row = _row(file_name=unicodedata.normalize(other, "möwe.png"), text=ZEBRA)
        (source / "metadata.jsonl").write_text(row)
    else:
        (source / unicodedata.normalize(other, name)).write_text(ZEBRA)
    report = examined()
    assert "zebra" in report.accepted[3].caption
    assert report.warnings == ()


def test_examine_prefers_the_name_that_is_exactly_equal(source, examined, make_picture):
    make_picture(7).save(source / "a.png")
    make_picture(8).save(source / "A.png")
    (source / "a.txt").write_text("small {subject}")
    (source / "A.txt").write_text("large {subject}")
    report = examined()
    assert _caption(report, "a.png") == "small sks bear"
    assert _caption(report, "A.png") == "large sks bear"


def test_examine_names_each_caption_that_fits_no_picture(source, examined):
    (source / "0-old.txt").write_text(ZEBRA)
    (source / "gone.caption").write_text(ZEBRA)
    (source / "README.txt").write_text("about these pictures")
    rows = _row(file_name="0.png", text=ZEBRA) + _row(file_name="gone.png", text=ZEBRA)
    (source / "metadata.jsonl").write_text(rows + "no json\n")
    found = {(item.source, item.message) for item in examined().warnings}
    assert found == {
        ("0-old.txt", "is a caption that fits no picture"),
        ("gone.caption", "is a caption that fits no picture"),
        ("metadata.jsonl", "row 2 names gone.png, which fits no picture"),
        ("metadata.jsonl", "row 3 has no file name and text"),
    }


@pytest.mark.parametrize(
    ("files", "used"),
    [
        ({"0.txt": "one {subject}", "0.caption": "two {subject}"}, "one sks bear"),
        ({"0.txt": "one {subject}", "0.png.txt": "two {subject}"}, "two sks bear"),
        (
            {"0.txt": "one {subject}", "metadata.csv": "file_name,text\n0.png,two {subject}\n"},
            "one sks bear",
        ),
        (
            {
                "metadata.csv": "file_name,text\n0.png,one {subject}\n",
                "metadata.jsonl": _row(file_name="0.png", text="two {subject}"),
            },
            "one sks bear",
        ),
    ],
)
def test_examine_picture_with_two_captions_is_warned_about(source, examined, files, used):
    for name, text in files.items():
        (source / name).write_text(text)
    report = examined()
    assert _caption(report, "0.png") == used
    (warning,) = report.warnings
    assert "is used" in warning.message


@pytest.mark.parametrize(
    "text",
    [
        f"{{subject}} with {FAMILY}",
        "{subject} \N{ZERO WIDTH SPACE}in snow",
        "{subject} in \N{ZERO WIDTH NON-JOINER}snow",
        "{subject}\N{WORD JOINER} in snow",
        "{subject} with a flag \U0001f3f4\U000e0067\U000e0062\U000e007f",
        "{subject} \N{LEFT-TO-RIGHT MARK}\N{HEBREW LETTER ALEF}",
        "{subject} " + "in deep snow " * 60,
    ],
    ids=["joined", "space", "non-joiner", "word-joiner", "flag", "mark", "long"],
)
def test_examine_keeps_a_caption_whole(source, examined, text):
    (source / "0.txt").write_text(text, encoding="utf-8")
    report = examined()
    assert _caption(report, "0.png") == text.replace("{subject}", "sks bear").strip()
    assert report.warnings == ()


def test_examine_caption_beyond_all_measure_is_cut_with_a_warning(source, examined):
    (source / "0.txt").write_text("{subject} " + "ü" * 90_000, encoding="utf-8")
    report = examined()
    assert len(_caption(report, "0.png")) <= MAX_CAPTION_CHARACTERS
    (warning,) = report.warnings
    assert "cut to its first 4000 characters" in warning.message


def test_examine_counts_tokens_and_says_what_is_left_out(tmp_path, source, examined):
    tokenizer = make_tiny_tokenizer(tmp_path / "tokenizer")
    (source / "0.txt").write_text("a photo of " * 4 + "{subject}")
    (source / "1.txt").write_text("{subject} " + "a photo of " * 4)
    found = [item for item in examined(tokenizer=tokenizer).warnings if item.check == "caption"]
    assert [item.source for item in found] == ["0.png", "1.png"]
    assert "tokens; the text encoder reads 12, and 'of a photo of" not in found[0].message
    assert "'sks' is in what is left out" in found[0].advice
    assert "Shorten it" in found[1].advice
    assert found[1].message.endswith(" is left out")


def test_read_caption_of_other_bytes_is_refused_by_the_table(tmp_path):
    (tmp_path / "a.txt").write_bytes(b"\xef\xbb\xbf a  photo\r\n of\tit \n")
    assert read_caption(tmp_path / "a.txt") == "a photo of it"
