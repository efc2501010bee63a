"""Checks the identifier against the base model's tokenizer, without torch or transformers."""

import hashlib
import json
import re
from collections.abc import Container, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final, Self

from boothline.config.section import SUBJECT_FIELD
from boothline.config.subject import SubjectConfig
from boothline.data.captions import names
from boothline.data.report import DatasetWarning
from boothline.errors import ConfigError

if TYPE_CHECKING:
    from tokenizers import Tokenizer

EXAMPLES: Final = ("ohwx", "phol", "olis", "zwx")
"""Words without a meaning. In the vocabulary of CLIP (49,408 tokens, the commonest first) the first
three are single tokens (47,993, 48,140 and 49,397); `sks`, another one (48,136), is a rifle, and
`zwx` is two. The built-in base knows `ohwx` and `zwx`."""
_FILES: Final = ("tokenizer.json", "vocab.json", "merges.txt")
_END: Final = "<|endoftext|>"
_MAX_SHOWN_CHARACTERS: Final = 60
_CLIP_PATTERN: Final = (
    r"<\|startoftext\|>|<\|endoftext\|>|'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+"
)
_QWEN_PATTERN: Final = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)
_COMMON_WORDS: Final = frozenset(
    {"a", "an", "the", "of", "on", "in", "at", "to", "and", "or", "with", "for", "by", "from", "is"}
    | {"it", "this", "that", "my", "your", "his", "her", "one", "two", "new", "old", "big", "small"}
    | {"red", "blue", "green", "white", "black", "photo", "picture", "image", "painting", "drawing"}
    | {"person", "man", "woman", "boy", "girl", "dog", "cat", "bear", "toy", "car", "house"}
)


@dataclass(frozen=True, kw_only=True)
class TokenCounter:
    """The tokenizer of a base model.

    Attributes:
        tokenizer: the loaded tokenizer.
        max_tokens: longest prompt, with the two marks at its ends; 0 when unknown.
        digest: sha256 (hex) of the files that define it.
    """

    tokenizer: "Tokenizer"
    max_tokens: int
    digest: str

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Load a tokenizer of CLIP or Qwen2 from the `tokenizer` folder of a diffusers model.

        Raises:
            ConfigError: the folder holds no tokenizer that is known.
        """
        digest = hashlib.sha256()
        for path in (folder / name for name in _FILES):
            if path.is_file():
                digest.update(path.name.encode() + b"\0" + path.read_bytes())
        try:
            settings = _json_of(folder / "tokenizer_config.json")
            is_qwen = str(settings.get("tokenizer_class", "")).startswith("Qwen2")
            tokenizer = _load_tokenizer(folder, is_qwen=is_qwen)
        except (OSError, ValueError, KeyError) as error:
            raise ConfigError(
                f"The tokenizer in {folder} cannot be read: {error}",
                remedy="Check base_model.source: tokenizer.json, or vocab.json and merges.txt.",
            ) from error
        limit = settings.get("model_max_length", 0)
        return cls(
            tokenizer=tokenizer,
            max_tokens=int(limit) if isinstance(limit, int | float) and 0 < limit < 10_000 else 0,
            digest=digest.hexdigest(),
        )

    def tokens(self, text: str) -> list[str]:
        """Return the tokens of a text, without marks at its ends."""
        return list(self.tokenizer.encode(text, add_special_tokens=False).tokens)

    def beyond(self, text: str) -> tuple[int, str]:
        """Return how many tokens a text has, marks included, and its end that is never read."""
        encoded = self.tokenizer.encode(text, add_special_tokens=False)
        num_tokens = len(encoded.tokens) + 2
        if not self.max_tokens or num_tokens <= self.max_tokens:
            return num_tokens, ""
        start = encoded.offsets[self.max_tokens - 2][0]
        return num_tokens, text[start:]

    @property
    def unknown(self) -> str:
        """The token that stands for everything unknown."""
        return str(getattr(self.tokenizer.model, "unk_token", None) or _END)


def _json_of(path: Path) -> dict[str, object]:
    if not path.is_file():
        return {}
    value = json.loads(path.read_text(encoding="utf-8"))
    return value if isinstance(value, dict) else {}


def _load_tokenizer(folder: Path, *, is_qwen: bool) -> "Tokenizer":
    """Return the tokenizer of a folder in the newer or the older layout."""
    from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers

    if (folder / "tokenizer.json").is_file():
        try:
            return Tokenizer.from_file(str(folder / "tokenizer.json"))
        except Exception as error:  # the library raises bare Exception for any malformed file
            raise ValueError(f"tokenizer.json: {error}") from error
    vocabulary = json.loads((folder / "vocab.json").read_text(encoding="utf-8"))
    lines = (folder / "merges.txt").read_text(encoding="utf-8").splitlines()
    merges = [
        (pair[0], pair[1]) for line in lines if len(pair := line.split()) == 2 and line[0] != "#"
    ]
    if is_qwen:
        tokenizer = Tokenizer(models.BPE(vocabulary, merges))
        tokenizer.normalizer = normalizers.NFC()
        tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
            [
                pre_tokenizers.Split(Regex(_QWEN_PATTERN), behavior="isolated"),
                pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
            ]
        )
        return tokenizer
    tokenizer = Tokenizer(
        models.BPE(vocabulary, merges, unk_token=_END, end_of_word_suffix="</w>", fuse_unk=False)
    )
    tokenizer.normalizer = normalizers.Sequence(
        [normalizers.NFC(), normalizers.Replace(Regex(r"\s+"), " "), normalizers.Lowercase()]
    )
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(_CLIP_PATTERN), behavior="removed", invert=True),
            pre_tokenizers.ByteLevel(add_prefix_space=False),
        ]
    )
    return tokenizer


def check_identifier(
    subject: SubjectConfig, templates: Sequence[str], *, counter: TokenCounter
) -> list[DatasetWarning]:
    """Return warnings about the identifier; a rare single token learns best.

    Args:
        subject: names the identifier and the class noun.
        templates: captions as written, `{subject}` not filled in.
        counter: the base model's tokenizer.

    Raises:
        ConfigError: the tokenizer splits the identifier although it has single rare tokens, or does
            not know it at all, so that it would mean the same as other unknown words.
    """
    identifier = subject.identifier
    tokens = counter.tokens(identifier)
    examples = _usable(counter, identifier=identifier)
    remedy = f"Set subject.identifier to a rare single token such as {', '.join(examples)}."
    if not tokens or counter.unknown in tokens:
        raise ConfigError(
            f"The base model's tokenizer does not know subject.identifier {identifier!r}.",
            remedy=remedy,
        )
    found: list[DatasetWarning] = []
    if len(tokens) > 1:
        pieces = " + ".join(token.removesuffix("</w>") for token in tokens)
        said = f"{identifier!r} is {len(tokens)} tokens ({pieces}), not one"
        if len(counter.tokens(examples[0])) == 1:
            raise ConfigError(f"subject.identifier {said}.", remedy=remedy)
        found.append(_warning(said, remedy))
    if reason := _commonness(subject, templates):
        found.append(_warning(f"{identifier!r} {reason}, so it means something already", remedy))
    return found


def check_free(identifiers: Iterable[str], vocabulary: Container[str]) -> None:
    """Check that identifiers can be added to a tokenizer as tokens of their own.

    Raises:
        ConfigError: one is a token of it already.
    """
    for identifier in identifiers:
        if identifier in vocabulary:
            raise ConfigError(
                f"The base model's tokenizer has a token {identifier!r} already.",
                remedy="Set subject.identifier to another word, or "
                "training.token_embedding.enabled to false.",
            )


def length_warnings(
    captions: Sequence[tuple[str, str]],
    *,
    counter: TokenCounter,
    identifier: str = "",
    what: str = "has a caption",
) -> list[DatasetWarning]:
    """Return warnings about captions that the text encoder cuts off, with what is lost.

    Args:
        captions: (source, filled caption) pairs.
        counter: the base model's tokenizer.
        identifier: must not be in what is cut off; empty: no matter.
        what: the texts, to read on from the source.
    """
    found: list[DatasetWarning] = []
    for source, caption in captions:
        num_tokens, lost = counter.beyond(caption)
        if not lost:
            continue
        advice = "Shorten it, or put what matters first."
        kept = caption[: len(caption) - len(lost)]
        if identifier and names(caption, identifier) and not names(kept, identifier):
            advice = f"The identifier {identifier!r} is in what is left out: put it first."
        shown = lost if len(lost) <= _MAX_SHOWN_CHARACTERS else f"{lost[:_MAX_SHOWN_CHARACTERS]}..."
        found.append(
            DatasetWarning(
                source=source,
                check="caption",
                message=f"{what} of {num_tokens} tokens; the text encoder reads"
                f" {counter.max_tokens}, and {shown!r} is left out",
                advice=advice,
            )
        )
    return found


def _commonness(subject: SubjectConfig, templates: Sequence[str]) -> str:
    """Return why the identifier is a common word here, or an empty string."""
    identifier = subject.identifier.lower()
    if identifier in _COMMON_WORDS:
        return "is a common word"
    if identifier in re.findall(r"\w+", subject.class_noun.lower()):
        return "is part of the class noun"
    rest = (
        re.sub(re.escape(subject.phrase), SUBJECT_FIELD, t, flags=re.IGNORECASE) for t in templates
    )
    # Alone it is the subject's name, as in tags; next to that name it means something else.
    if any(
        SUBJECT_FIELD in text and names(text.replace(SUBJECT_FIELD, " "), identifier)
        for text in rest
    ):
        return "stands in a caption by itself"
    return ""


def _usable(counter: TokenCounter, *, identifier: str) -> tuple[str, ...]:
    """Return words to advise: single tokens of this tokenizer other than the identifier."""
    rare = [word for word in EXAMPLES if word != identifier and len(counter.tokens(word)) == 1]
    return tuple(rare) or EXAMPLES[:1]


def _warning(message: str, advice: str) -> DatasetWarning:
    return DatasetWarning(
        source="", check="identifier", message=f"The identifier {message}", advice=advice
    )
