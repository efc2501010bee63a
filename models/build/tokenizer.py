"""Learns a byte-pair tokenizer in CLIP's format from the captions of the picture world."""

from __future__ import annotations

import itertools
import json
import re
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Final

from transformers import CLIPTokenizer

from models.build.vocabulary import (
    CLOTHES,
    HEADS,
    IDENTIFIERS,
    STYLE_HEADS,
    VOCABULARY,
    article,
)

START_TOKEN: Final = "<|startoftext|>"  # noqa: S105 - a text token
END_TOKEN: Final = "<|endoftext|>"  # noqa: S105 - a text token
_END_OF_WORD: Final = "</w>"
_WORDS: Final = re.compile(r"[a-z]+|[0-9]")


def byte_characters() -> list[str]:
    """Return the 256 printable characters that stand for bytes, in the order of GPT-2 and CLIP."""
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = [byte for byte in range(256) if byte not in printable]
    return [chr(byte) for byte in printable] + [chr(256 + n) for n in range(len(others))]


def world_words() -> Counter[str]:
    """Return every word that captions can hold, with a weight that orders the merges."""
    names = VOCABULARY.noun_names
    texts = [*names, *(article(name) for name in names)]
    texts += [f"{place.preposition} {place.name}" for place in VOCABULARY.backgrounds]
    texts += [*HEADS, *STYLE_HEADS.values(), *IDENTIFIERS, *CLOTHES, "wearing", "the head of"]
    return Counter(word for text in texts for word in _WORDS.findall(text.lower()))


def learn_merges(words: Counter[str], *, max_merges: int) -> list[tuple[str, str]]:
    """Return byte-pair merges, most frequent pair first, until every word is one token.

    Algorithm: Sennrich et al. 2016, "Neural Machine Translation of Rare Words with Subword Units".

    Args:
        words: words with their frequency.
        max_merges: stop after so many merges.
    """
    pieces = {word: [*word[:-1], word[-1] + _END_OF_WORD] for word in words}
    merges: list[tuple[str, str]] = []
    while len(merges) < max_merges:
        pairs: Counter[tuple[str, str]] = Counter()
        for word, parts in pieces.items():
            for pair in itertools.pairwise(parts):
                pairs[pair] += words[word]
        if not pairs:
            break
        best = max(pairs, key=lambda pair: (pairs[pair], pair))
        merges.append(best)
        pieces = {word: _merge(parts, best) for word, parts in pieces.items()}
    return merges


def _merge(parts: list[str], pair: tuple[str, str]) -> list[str]:
    merged: list[str] = []
    for part in parts:
        if merged and (merged[-1], part) == pair:
            merged[-1] = merged[-1] + part
        else:
            merged.append(part)
    return merged


def save_tokenizer(folder: Path, *, vocabulary_size: int, max_tokens: int) -> CLIPTokenizer:
    """Learn the tokenizer, write `vocab.json` and `merges.txt`, and return it loaded.

    Args:
        folder: where the files go.
        vocabulary_size: most tokens in all; more words than fit stay in pieces.
        max_tokens: longest prompt, start and end tokens included.
    """
    folder.mkdir(parents=True, exist_ok=True)
    characters = byte_characters()
    alphabet = characters + [character + _END_OF_WORD for character in characters]
    merges = learn_merges(world_words(), max_merges=vocabulary_size - len(alphabet) - 2)
    tokens = alphabet + list(dict.fromkeys("".join(pair) for pair in merges))
    tokens += [START_TOKEN, END_TOKEN]
    numbers = {token: number for number, token in enumerate(tokens)}
    (folder / "vocab.json").write_text(json.dumps(numbers, ensure_ascii=False))
    lines = ["#version: 0.2", *(" ".join(pair) for pair in merges)]
    (folder / "merges.txt").write_text("\n".join(lines) + "\n")
    tokenizer = CLIPTokenizer(
        vocab=str(folder / "vocab.json"),
        merges=str(folder / "merges.txt"),
        model_max_length=max_tokens,
    )
    tokenizer.save_pretrained(folder)
    return CLIPTokenizer.from_pretrained(folder)


def tokenize(tokenizer: CLIPTokenizer, captions: Iterable[str]) -> list[list[int]]:
    """Return the padded token numbers of captions, each `model_max_length` long."""
    batch = tokenizer(
        list(captions),
        padding="max_length",
        truncation=True,
        max_length=tokenizer.model_max_length,
    )
    numbers: list[list[int]] = batch["input_ids"]
    return numbers
