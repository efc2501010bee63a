"""Learnt tokens: only their rows can change, and diffusers reads what is written."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import diffusers
import pytest
import torch
from safetensors.torch import load_file

from boothline.diffusion.export import check_diffusers, save_diffusers
from boothline.diffusion.loading import DiffusionParts, load_pipeline
from boothline.diffusion.prompt_encoding import encode_prompt, tokenize
from boothline.diffusion.tokens import bake_rows, put_rows, save_embeddings, save_texts, start_rows
from boothline.errors import ConfigError, IntegrityError

PROMPT = "a photo of sks bear"
CLASSES = {"sd1": "StableDiffusionPipeline", "sdxl": "StableDiffusionXLPipeline"}
Folders = Callable[[str], Path]


def loaded(folder: Path) -> DiffusionParts:
    return load_pipeline(folder, device="cpu")


def drawn_rows(parts: DiffusionParts, count: int = 1) -> dict[str, torch.Tensor]:
    """Rows as a training may leave them."""
    draw = torch.Generator().manual_seed(5)
    return {
        name: torch.randn(count, encoder.config.hidden_size, generator=draw)
        for name, encoder in parts.text_encoders.items()
    }


def rows_of(parts: DiffusionParts, words: dict[str, str]) -> Any:
    rows = start_rows(parts, words)
    assert rows is not None
    return rows


@pytest.mark.parametrize("name", CLASSES)
def test_start_rows_begin_as_the_word_and_change_nothing_else(
    family_folders: Folders, name: str
) -> None:
    parts, base = loaded(family_folders(name)), loaded(family_folders(name))
    before = tokenize(parts, PROMPT)
    rows = rows_of(parts, {"sks": "bear", "zwx": "red bear"})
    for encoder in parts.text_encoders:
        tokenizer, table = base.tokenizer_of(encoder), base.part(encoder).get_input_embeddings()
        numbers = tokenizer("red bear", add_special_tokens=False).input_ids
        assert torch.equal(rows[encoder][1], table.weight[numbers].mean(0))
        after = tokenize(parts, PROMPT)[encoder]
        changed = (after != before[encoder]).nonzero().flatten().tolist()
        assert after[changed].tolist() == [table.num_embeddings]
        assert not [n for n, p in parts.part(encoder).named_parameters() if p is rows[encoder]]
    # A row that is the bear's makes of sks what the base makes of bear.
    bears = encode_prompt(base, "a photo of bear bear")
    assert all(torch.equal(v, bears[n]) for n, v in encode_prompt(parts, PROMPT).items())
    plain = encode_prompt(base, "a red dog")
    assert all(torch.equal(v, plain[n]) for n, v in encode_prompt(parts, "a red dog").items())


def test_token_is_a_word_of_its_own_only(tiny_pipeline: Path) -> None:
    parts, base = loaded(tiny_pipeline), loaded(tiny_pipeline)
    rows_of(parts, {"sks": "bear"})
    first = base.text_encoder.get_input_embeddings().num_embeddings
    for text in ("sksa", "asks", "a dog"):
        assert torch.equal(
            tokenize(parts, text)["text_encoder"], tokenize(base, text)["text_encoder"]
        )
    for text in ("sks", "SKS!", "(sks)", "a sks, red"):
        assert (tokenize(parts, text)["text_encoder"] == first).sum() == 1


def test_gradient_reaches_the_row_of_the_token_alone(tiny_pipeline: Path) -> None:
    parts = loaded(tiny_pipeline)
    rows = rows_of(parts, {"sks": "bear", "zwx": "dog"})
    parts.text_encoder.requires_grad_(False)
    tokens = tokenize(parts, PROMPT)["text_encoder"][None]
    parts.family.embed(parts.text_encoders, {"text_encoder": tokens})["context"].sum().backward()
    gradient = rows["text_encoder"].grad
    assert gradient is not None
    assert gradient[0].abs().sum() > 0
    assert not gradient[1].any()
    assert all(p.grad is None for p in parts.text_encoder.parameters())


def test_pooled_features_are_those_at_the_end_mark_where_the_settings_do_not_name_it(
    family_folders: Folders, tmp_path: Path
) -> None:
    folder = Path(shutil.copytree(family_folders("sdxl"), tmp_path / "old"))
    for encoder in ("text_encoder", "text_encoder_2"):
        path = folder / encoder / "config.json"
        path.write_text(json.dumps({**json.loads(path.read_text()), "eos_token_id": 2}))
    parts, base = loaded(folder), loaded(folder)
    wanted = encode_prompt(base, "a photo of bear bear")["pooled"]
    rows_of(parts, {"sks": "bear"})
    assert torch.equal(encode_prompt(parts, PROMPT)["pooled"], wanted)


def test_tokens_that_cannot_be_added_are_refused(tiny_pipeline: Path) -> None:
    parts = loaded(tiny_pipeline)
    with pytest.raises(ConfigError, match="has a token 'sk' already"):
        start_rows(parts, {"sk": "bear"})
    parts.tokenizer.add_tokens(["other"])
    with pytest.raises(ConfigError, match=r"rows for the \d+ tokens"):
        start_rows(parts, {"sks": "bear"})


@pytest.mark.proves("F56/embedding")
@pytest.mark.parametrize("name", CLASSES)
def test_model_with_a_baked_token_draws_the_same_from_its_folder_in_diffusers(
    family_folders: Folders, tmp_path: Path, name: str
) -> None:
    base = family_folders(name)
    parts, learning, plain = (loaded(base) for _ in range(3))
    rows = drawn_rows(parts, 2)
    bake_rows(parts, rows, ["sks", "zwx"])
    save_diffusers(parts, tmp_path / "model", base=base, trained=list(rows))
    save_texts(parts, tmp_path / "model")
    check_diffusers(tmp_path / "model", parts, prompt=PROMPT)
    # As it was while it learnt, and with all other rows as the base has them.
    start_rows(learning, {"sks": "bear", "zwx": "bear"})
    for encoder in rows:
        table = learning.part(encoder).get_input_embeddings()
        table._rows[0].data.copy_(rows[encoder])
    published = loaded(tmp_path / "model")
    for prompt in (PROMPT, "a zwx dog"):
        found, wanted = encode_prompt(published, prompt), encode_prompt(learning, prompt)
        assert all(torch.equal(found[key], wanted[key]) for key in wanted)
        assert not torch.equal(found["context"], encode_prompt(plain, prompt)["context"])
    for encoder in rows:
        stored = published.part(encoder).get_input_embeddings().weight
        own = plain.part(encoder).get_input_embeddings().weight
        assert torch.equal(stored[: len(own)], own)
        assert torch.equal(stored[len(own) :], rows[encoder])


@pytest.mark.proves("F56/embedding")
@pytest.mark.parametrize("name", CLASSES)
def test_embedding_file_loaded_by_diffusers_draws_what_the_model_draws(
    family_folders: Folders, tmp_path: Path, name: str
) -> None:
    base = family_folders(name)
    parts = loaded(base)
    rows = drawn_rows(parts)
    save_embeddings(rows, ["sks"], tmp_path / "embeddings", base=base)
    file = tmp_path / "embeddings" / "sks.safetensors"
    pipeline = getattr(diffusers, CLASSES[name]).from_pretrained(base)
    if name == "sd1":
        pipeline.load_textual_inversion(str(file))
    else:
        stored = load_file(file)
        pipeline.load_textual_inversion(stored["clip_l"], "sks")
        pipeline.load_textual_inversion(
            stored["clip_g"], "sks", pipeline.tokenizer_2, pipeline.text_encoder_2
        )
    bake_rows(parts, rows, ["sks"])
    found = pipeline.encode_prompt(
        PROMPT, device="cpu", num_images_per_prompt=1, do_classifier_free_guidance=False
    )
    wanted = encode_prompt(parts, PROMPT)
    assert torch.equal(found[0][0], wanted["context"])
    if name == "sdxl":
        assert torch.equal(found[2][0], wanted["pooled"])


def test_embedding_file_that_diffusers_reads_otherwise_is_refused(
    tiny_pipeline: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from boothline.diffusion import tokens

    monkeypatch.setattr(
        tokens, "load_file", lambda path: {n: v + 1 for n, v in load_file(path).items()}
    )
    with pytest.raises(IntegrityError, match="another embedding than was learnt"):
        save_embeddings(
            drawn_rows(loaded(tiny_pipeline)), ["sks"], tmp_path / "e", base=tiny_pipeline
        )


def test_rows_can_be_put_where_there_is_no_tokenizer(tiny_pipeline: Path) -> None:
    parts = loaded(tiny_pipeline).without("tokenizer")
    rows = put_rows(parts, drawn_rows(parts, 3))
    table = parts.text_encoder.get_input_embeddings()
    assert table.weight.shape[0] == table.base.num_embeddings + 3
    assert [p.shape[0] for p in rows.values()] == [3]
