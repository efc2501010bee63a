import json
import shutil
from pathlib import Path

import pytest
from model_fixtures import make_tiny_tokenizer

from boothline.config.subject import SubjectConfig
from boothline.data.identifier import TokenCounter, check_identifier, length_warnings
from boothline.errors import ConfigError

PROMPT = ("a photo of {subject}",)


@pytest.fixture(scope="module")
def tokenizer_folder(tmp_path_factory):
    return make_tiny_tokenizer(tmp_path_factory.mktemp("tokenizer"))


@pytest.fixture(scope="module")
def counter(tokenizer_folder) -> TokenCounter:
    return TokenCounter.load(tokenizer_folder)


def _messages(
    counter: TokenCounter, *, templates: tuple[str, ...] = PROMPT, **subject: str
) -> list[str]:
    found = check_identifier(SubjectConfig(**subject), templates, counter=counter)
    return [warning.message for warning in found]


@pytest.mark.proves("F01/identifier")
def test_check_identifier_single_rare_token_passes(counter):
    assert _messages(counter, identifier="sks") == []


@pytest.mark.proves("F01/identifier")
def test_check_identifier_several_tokens_is_an_error_with_remedy(counter):
    with pytest.raises(ConfigError, match=r"'ab' is 2 tokens \(a \+ b\), not one") as caught:
        check_identifier(SubjectConfig(identifier="ab"), PROMPT, counter=counter)
    assert "such as zwx." in caught.value.remedy


def test_check_identifier_several_tokens_without_a_single_one_to_advise_is_warned_about(tmp_path):
    bare = TokenCounter.load(make_tiny_tokenizer(tmp_path, words=["photo", "bear"]))
    (message,) = _messages(bare, identifier="sks")
    assert "3 tokens (s + k + s)" in message


@pytest.mark.proves("F01/identifier")
@pytest.mark.parametrize(
    ("subject", "template", "reason"),
    [
        ({"identifier": "photo"}, "{subject}", "common word"),
        ({"identifier": "grass", "class_noun": "grass"}, "{subject}", "part of the class noun"),
        ({"identifier": "beach"}, "{subject} on the beach", "stands in a caption"),
    ],
)
def test_check_identifier_common_word_is_warned_about(counter, subject, template, reason):
    (message,) = _messages(counter, templates=(template,), **subject)
    assert reason in message


def test_check_identifier_as_a_tag_passes(counter):
    tags = ("sks, bear, on grass", "bear, sks", "sks")
    assert _messages(counter, templates=tags, identifier="sks") == []


@pytest.mark.parametrize("identifier", ["sks", "zwx", "photo"])
def test_check_identifier_never_advises_a_rifle_or_the_word_itself(counter, identifier):
    found = check_identifier(
        SubjectConfig(identifier=identifier), ("{subject} with sks and zwx",), counter=counter
    )
    for warning in found:
        assert "sks" not in warning.advice
        assert f"such as {identifier}" not in warning.advice
    assert found


def test_check_identifier_written_out_phrase_in_caption_passes(counter):
    assert _messages(counter, templates=("a photo of sks bear",), identifier="sks") == []


def test_check_identifier_unknown_to_the_tokenizer_is_config_error(tmp_path):
    from tokenizers import Tokenizer, models, pre_tokenizers

    tokenizer = Tokenizer(models.WordLevel({"photo": 0, "[UNK]": 1}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.save(str(tmp_path / "tokenizer.json"))
    with pytest.raises(ConfigError, match=r"does not know subject\.identifier 'sks'"):
        _messages(TokenCounter.load(tmp_path), identifier="sks")


@pytest.mark.parametrize(
    "text", ["sks", "a photo of sks bear", "Ünïcode, don't 42!", "zwx on the moon"]
)
def test_token_counter_old_and_new_layout_agree_with_transformers(tokenizer_folder, tmp_path, text):
    from transformers import CLIPTokenizer

    for name in ("vocab.json", "merges.txt"):
        shutil.copy(tokenizer_folder / name, tmp_path / name)
    expected = CLIPTokenizer.from_pretrained(tokenizer_folder).tokenize(text)
    assert TokenCounter.load(tokenizer_folder).tokens(text) == expected
    assert TokenCounter.load(tmp_path).tokens(text) == expected


def test_token_counter_missing_or_damaged_tokenizer_is_config_error(tmp_path):
    with pytest.raises(ConfigError, match="cannot be read"):
        TokenCounter.load(tmp_path)
    (tmp_path / "tokenizer.json").write_text("{}")
    with pytest.raises(ConfigError, match="cannot be read"):
        TokenCounter.load(tmp_path)


def test_token_counter_digest_follows_the_files(tokenizer_folder, tmp_path, counter):
    shutil.copytree(tokenizer_folder, tmp_path / "copy")
    assert TokenCounter.load(tmp_path / "copy").digest == counter.digest
    (tmp_path / "copy" / "merges.txt").write_text("#version: 0.2\n")
    assert TokenCounter.load(tmp_path / "copy").digest != counter.digest


def test_length_warnings_long_caption_is_named(counter):
    short, long = ("a.png", "a photo of sks bear"), ("b.png", "a photo of " * 5)
    (warning,) = length_warnings([short, long], counter=counter)
    assert warning.source == "b.png"
    assert "17 tokens; the text encoder reads 12" in warning.message


def test_qwen_tokenizer_in_the_older_layout_gives_the_tokens_of_transformers(
    tmp_path: Path,
) -> None:
    from transformers import Qwen2Tokenizer
    from transformers.convert_slow_tokenizer import bytes_to_unicode

    merges = [("s", "k"), ("sk", "s"), ("Ġ", "sks")]
    letters = [*bytes_to_unicode().values(), "sk", "sks", "Ġsks"]
    vocabulary = {letter: number for number, letter in enumerate(letters)}
    (tmp_path / "vocab.json").write_text(json.dumps(vocabulary))
    lines = ["#version: 0.2", *(" ".join(pair) for pair in merges)]
    (tmp_path / "merges.txt").write_text("\n".join(lines))
    settings = {"tokenizer_class": "Qwen2Tokenizer", "model_max_length": 131072}
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(settings))

    counter = TokenCounter.load(tmp_path)

    text = "Photo of sks bear's 12 caf\u00e9s,\n SKS"
    theirs = Qwen2Tokenizer(vocab=vocabulary, merges=merges)
    assert counter.tokens(text) == theirs.tokenize(text)
    assert counter.tokens("sks") == ["sks"]
    assert _messages(counter, identifier="sks") == []
