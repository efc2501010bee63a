"""What is written next to an exported model: how other tools load it, in three lines each."""

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import PurePath

from boothline.results import Model

ADAPTER_FILE = "pytorch_lora_weights.safetensors"
EMBEDDINGS = "embeddings/"
_DIFFUSERS = "diffusers"
_A1111 = "A1111 (stable-diffusion-webui, Forge)"
_COMFYUI = "ComfyUI"


def loading_lines(
    model: Model, *, pipeline: str, form: str, folder: str, stem: str, files: Sequence[str]
) -> dict[str, list[str]]:
    """Return the three lines with which each tool loads an export.

    Args:
        model: what was exported.
        pipeline: its class in diffusers.
        form: format of the export.
        folder: where it is, as the reader names it.
        stem: name of the single file and of the adapters, without suffix.
        files: the exported files, relative to the folder.
    """
    prompt = f"a photo of {model.phrases[0]} on the moon"
    if form == "diffusers":
        return {
            _DIFFUSERS: _diffusers(f"from_pretrained({folder!r})", prompt, kind="DiffusionPipeline")
        }
    if form == "single-file":
        file = f"{stem}.safetensors"
        return {
            _DIFFUSERS: _diffusers(
                f"from_single_file({f'{folder}/{file}'!r}, config={f'{folder}/{stem}-settings'!r})",
                prompt,
                kind=pipeline,
            ),
            _A1111: _a1111_checkpoint(f"{folder}/{file}", stem, prompt),
            _COMFYUI: _comfyui(f"{folder}/{file}", "checkpoints", "Load Checkpoint", stem, prompt),
        }
    if form == "lora":
        lines = _lora(model, folder=folder, stem=stem, files=files, prompt=prompt)
        tokens = [PurePath(file).stem for file in files if file.startswith(EMBEDDINGS)]
        return _with_tokens(lines, tokens, pipeline=pipeline, folder=folder)
    return {
        _COMFYUI: [
            f"# copy what is below {folder} into ComfyUI/models, if it is not that folder",
            f'# press R, and choose {stem} in "Load Checkpoint" or "Load LoRA"',
            f"# positive prompt: {prompt}",
        ]
    }


def readme(
    title: str,
    facts: Mapping[str, str],
    *,
    lines: Mapping[str, Sequence[str]],
    provenance: str,
) -> str:
    """Return the README of an export, as Markdown.

    Args:
        title: name and version of the model.
        facts: what is known about it.
        lines: how each tool loads it.
        provenance: name of the file with the digests.
    """
    rows = "\n".join(f"| {name} | {value} |" for name, value in facts.items() if value)
    tools = "\n\n".join(
        f"## {tool}\n\n```{'python' if tool == _DIFFUSERS else ''}\n" + "\n".join(three) + "\n```"
        for tool, three in lines.items()
    )
    return (
        f"# {title}\n\nA personalised text-to-image model, exported by Boothline. Every file was "
        f"compared with its sha256 while it was written; `{provenance}` has them all.\n\n"
        f"| what | value |\n| --- | --- |\n{rows}\n\n{tools}\n\n"
        "The licence of the base model holds for this model, too.\n"
    )


def provenance(values: Mapping[str, object]) -> str:
    """Return the provenance of an export as JSON."""
    return json.dumps(values, indent=2, sort_keys=True, ensure_ascii=False) + "\n"


def _diffusers(loading: str, prompt: str, *, kind: str) -> list[str]:
    return [
        f"from diffusers import {kind}",
        f"pipeline = {kind}.{loading}",
        f'pipeline({prompt!r}).images[0].save("picture.png")',
    ]


def _pretrained(source: str) -> str:
    """Return the arguments with which diffusers loads a base by its source."""
    if source.startswith(("builtin:", "base:")):
        return repr(f"FOLDER OF {source}")
    hub_id, _, commit = source.partition("@")
    return f"{hub_id!r}, revision={commit!r}" if commit and "/" in hub_id else repr(source)


def _lora(
    model: Model, *, folder: str, stem: str, files: Sequence[str], prompt: str
) -> dict[str, list[str]]:
    """Return how the tools put adapters onto their base; kohya's names are not always there."""
    file = f"{stem}.safetensors"
    base = _pretrained(model.base_model.source)
    lines = {
        _DIFFUSERS: [
            "from diffusers import DiffusionPipeline",
            f"pipeline = DiffusionPipeline.from_pretrained({base}); "
            f"pipeline.load_lora_weights({folder!r}, weight_name={ADAPTER_FILE!r})",
            f'pipeline({prompt!r}).images[0].save("picture.png")',
        ]
    }
    if file in files:
        lines[_A1111] = [
            f"cp {folder}/{file} stable-diffusion-webui/models/Lora/",
            "# choose the base model as the checkpoint, and press Refresh on the Lora tab",
            f"# prompt: {prompt} <lora:{stem}:1>",
        ]
        lines[_COMFYUI] = _comfyui(f"{folder}/{file}", "loras", "Load LoRA", stem, prompt)
    return lines


def _with_tokens(
    lines: Mapping[str, list[str]], tokens: Sequence[str], *, pipeline: str, folder: str
) -> dict[str, list[str]]:
    """Return the lines for adapters with those that load learnt tokens; ComfyUI marks them."""
    found = {tool: [*three] for tool, three in lines.items()}
    for token in tokens:
        place = f"{folder}/{EMBEDDINGS}{token}.safetensors"
        loading = [f"pipeline.load_textual_inversion({place!r})"]
        if "XL" in pipeline:
            loading = [
                f"rows = safetensors.torch.load_file({place!r})",
                f'pipeline.load_textual_inversion(rows["clip_l"], {token!r})',
                f'pipeline.load_textual_inversion(rows["clip_g"], {token!r}, '
                "pipeline.tokenizer_2, pipeline.text_encoder_2)",
            ]
            found[_DIFFUSERS][0] = (
                "import safetensors.torch; from diffusers import DiffusionPipeline"
            )
        found[_DIFFUSERS][1] += "".join(f"; {call}" for call in loading)
        for tool, root in ((_A1111, "stable-diffusion-webui"), (_COMFYUI, "ComfyUI/models")):
            if tool in found:
                found[tool][0] += f"; cp {place} {root}/embeddings/"
    if _COMFYUI in found:
        for token in tokens:
            marked = re.sub(rf"\b{re.escape(token)}\b", f"embedding:{token}", found[_COMFYUI][2])
            found[_COMFYUI][2] = marked
    return found


def _a1111_checkpoint(file: str, stem: str, prompt: str) -> list[str]:
    return [
        f"cp {file} stable-diffusion-webui/models/Stable-diffusion/",
        f"# press the refresh button and choose {stem} as the checkpoint",
        f"# prompt: {prompt}",
    ]


def _comfyui(file: str, place: str, node: str, stem: str, prompt: str) -> list[str]:
    return [
        f"cp {file} ComfyUI/models/{place}/",
        f'# press R, and choose {stem} in "{node}"',
        f"# positive prompt: {prompt}",
    ]
