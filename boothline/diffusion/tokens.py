"""A token of its own for each subject, of which the row in the text encoders' tables is learnt.

Gal et al., "An image is worth one word: personalizing text-to-image generation using textual
inversion", 2022. Learnt together with the denoiser it is called pivotal tuning: Roich et al.,
"Pivotal tuning for latent-based editing of real images", 2021.
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import diffusers
import torch
from safetensors.torch import load_file, save_file
from torch import nn
from torch.nn import functional
from transformers import AddedToken

from boothline.data.identifier import check_free
from boothline.diffusion.export import trained_weights
from boothline.diffusion.layout import family_of
from boothline.diffusion.loading import DiffusionParts, quiet_libraries, tokenizer_name
from boothline.errors import ConfigError, IntegrityError

LEARNT: Final = "token_embedding"
"""Name of the learnt rows among the networks of a training, and of their file in its states."""
SDXL_NAMES: Final = {"text_encoder": "clip_l", "text_encoder_2": "clip_g"}


class Table(nn.Module):
    """A text encoder's table of tokens with learnt rows behind the frozen ones.

    Args:
        base: the table of the base model.
        rows_ND: the learnt rows.
    """

    def __init__(self, base: nn.Embedding, rows_ND: nn.Parameter) -> None:
        super().__init__()
        self.base = base
        # In a tuple, so that they are not listed among the text encoder's weights.
        self._rows = (rows_ND,)

    @property
    def weight(self) -> torch.Tensor:
        """The whole table, (V + N, D)."""
        return torch.cat([self.base.weight, self._rows[0]])

    def forward(self, tokens_UL: torch.Tensor) -> torch.Tensor:
        """Return (U, L, D): the row of each token."""
        first = self.base.num_embeddings
        own_ULD = functional.embedding((tokens_UL - first).clamp(min=0), self._rows[0])
        base_ULD = self.base(tokens_UL.clamp(max=first - 1))
        return torch.where((tokens_UL >= first)[..., None], own_ULD, base_ULD)


def start_rows(parts: DiffusionParts, words: Mapping[str, str]) -> nn.ParameterDict | None:
    """Give each identifier a token, and return the rows to learn by text encoder, (N, D) each.

    A row starts as the mean of the rows of a word.

    Args:
        parts: the base model, whose tokenizers and text encoders are changed in place.
        words: identifiers and the words that they start from.

    Returns:
        None where there are no identifiers.

    Raises:
        ConfigError: a tokenizer has such a token already, or does not fit its text encoder.
    """
    if not words:
        return None
    rows = {}
    for name in parts.family.text_encoders:
        tokenizer: Any = parts.tokenizer_of(name)
        table: nn.Embedding = parts.part(name).get_input_embeddings()
        means = [_mean_row(tokenizer, table, word) for word in words.values()]
        _add_tokens(tokenizer, list(words), num_rows=table.num_embeddings)
        rows[name] = torch.stack(means)
    return put_rows(parts, rows)


def put_rows(parts: DiffusionParts, rows: Mapping[str, torch.Tensor]) -> nn.ParameterDict:
    """Put rows behind the tables of a model's text encoders, and return them as parameters.

    Args:
        parts: the model, changed in place.
        rows: (N, D) by text encoder.
    """
    learnt = {name: nn.Parameter(value.detach().clone()) for name, value in rows.items()}
    for name, parameter in learnt.items():
        encoder: Any = parts.part(name)
        encoder.set_input_embeddings(Table(encoder.get_input_embeddings(), parameter))
        _end_at_the_mark(encoder, parts.tokenizer_of(name))
    return nn.ParameterDict(learnt)


def bake_rows(
    parts: DiffusionParts, rows: Mapping[str, torch.Tensor], identifiers: Sequence[str]
) -> None:
    """Make learnt rows part of a model's tokenizers and tables, in place.

    Args:
        parts: the base model, with the trained weights of its other networks.
        rows: the learnt ones, (N, D) by text encoder.
        identifiers: their tokens.

    Raises:
        ConfigError: as for `start_rows`.
    """
    for name, own_ND in rows.items():
        encoder: Any = parts.part(name)
        tokenizer = parts.tokenizer_of(name)
        table: nn.Embedding = encoder.get_input_embeddings()
        _add_tokens(tokenizer, identifiers, num_rows=table.num_embeddings)
        whole_VD = torch.cat([table.weight.detach(), own_ND.to(table.weight)])
        whole = nn.Embedding(len(whole_VD), whole_VD.shape[1], _weight=whole_VD).requires_grad_(
            False
        )
        encoder.set_input_embeddings(whole)
        encoder.config.vocab_size = len(whole_VD)
        _end_at_the_mark(encoder, tokenizer)


def learnt_rows(state: Path) -> dict[str, torch.Tensor]:
    """Return the learnt rows of a training state, (N, D) by text encoder; averages, if any.

    Args:
        state: folder of the state.

    Raises:
        TrainingError: a number is NaN or infinite.
    """
    if not (state / f"{LEARNT}.safetensors").is_file():
        return {}
    return trained_weights(state, names=(LEARNT,))[LEARNT]


def save_embeddings(
    rows: Mapping[str, torch.Tensor], identifiers: Sequence[str], folder: Path, *, base: Path
) -> None:
    """Write a file for each token as diffusers' `load_textual_inversion` reads it, and check that.

    With one text encoder the tensor has the token's name; with two they are `clip_l` and `clip_g`,
    as A1111 and ComfyUI have it, too.

    Args:
        rows: (N, D) by text encoder.
        identifiers: their tokens.
        folder: where to write.
        base: folder of the base model.

    Raises:
        IntegrityError: diffusers reads other numbers.
    """
    folder.mkdir(parents=True)
    for number, identifier in enumerate(identifiers):
        of_each = {name: value[number : number + 1] for name, value in rows.items()}
        names = SDXL_NAMES if len(of_each) > 1 else dict.fromkeys(of_each, identifier)
        file = folder / f"{identifier}.safetensors"
        save_file({names[name]: row.contiguous() for name, row in of_each.items()}, file)
        read = load_file(file)
        stored = {name: read[names[name]] for name in of_each}
        _check_embedding(identifier, stored, rows=of_each, base=base)


def _check_embedding(
    identifier: str,
    stored: Mapping[str, torch.Tensor],
    *,
    rows: Mapping[str, torch.Tensor],
    base: Path,
) -> None:
    """Load a token into diffusers' pipeline of the base, without its other networks."""
    family = family_of(base)
    left_out = dict.fromkeys((family.denoiser, *family.names("autoencoder")))
    with quiet_libraries():
        pipeline = getattr(diffusers, family.pipeline).from_pretrained(
            base, **left_out, **family.extras, local_files_only=True, use_safetensors=True
        )
    for name, row in rows.items():
        encoder, tokenizer = getattr(pipeline, name), getattr(pipeline, tokenizer_name(name))
        pipeline.load_textual_inversion(
            {identifier: stored[name]}, text_encoder=encoder, tokenizer=tokenizer
        )
        number = tokenizer.convert_tokens_to_ids(identifier)
        found = encoder.get_input_embeddings().weight.detach()[number]
        if not torch.equal(found, row[0].to(found)):
            raise IntegrityError(
                f"The token {identifier!r} loaded by diffusers gives the {name} another embedding "
                "than was learnt.",
                remedy="The export is not published; report this as a bug.",
            )


def save_texts(parts: DiffusionParts, folder: Path) -> None:
    """Write the tokenizers of a model, and what its text encoders' settings say of them."""
    for name in parts.family.names("tokenizer"):
        parts.part(name).save_pretrained(folder / name)
    for name, encoder in parts.text_encoders.items():
        path = folder / name / "config.json"
        own = {key: getattr(encoder.config, key) for key in ("vocab_size", "eos_token_id")}
        settings = {**json.loads(path.read_text("utf-8")), **own}
        path.write_text(json.dumps(settings, indent=2, sort_keys=True) + "\n", encoding="utf-8")


def _mean_row(tokenizer: Any, table: nn.Embedding, word: str) -> torch.Tensor:  # noqa: ANN401
    """Return the mean of the rows of a word's tokens, (D,)."""
    tokens = tokenizer(word, add_special_tokens=False).input_ids
    return table.weight.detach()[tokens].mean(0)


def _add_tokens(tokenizer: Any, identifiers: Sequence[str], *, num_rows: int) -> None:  # noqa: ANN401
    """Add tokens of which the first gets the number of the first row behind a table.

    Raises:
        ConfigError: one is there already, or the table has other rows than the tokenizer tokens.
    """
    if len(tokenizer) != num_rows:
        raise ConfigError(
            f"The text encoder has {num_rows} rows for the {len(tokenizer)} tokens of its "
            "tokenizer, so that no token can be added.",
            remedy="Set training.token_embedding.enabled to false.",
        )
    check_free(identifiers, tokenizer.get_vocab())
    tokenizer.add_tokens([AddedToken(one, single_word=True) for one in identifiers])


def _end_at_the_mark(encoder: Any, tokenizer: Any) -> None:  # noqa: ANN401
    """Let a text encoder find the end of a text by its mark.

    The settings of the first CLIP models do not name the mark, and transformers then takes the
    token with the highest number for it, which an added one would be.
    """
    if tokenizer is not None and encoder.config.eos_token_id != tokenizer.eos_token_id:
        encoder.config.eos_token_id = tokenizer.eos_token_id
        inner = getattr(encoder, "text_model", encoder)
        inner.eos_token_id = tokenizer.eos_token_id
