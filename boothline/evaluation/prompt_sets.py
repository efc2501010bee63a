"""The prompts that a model is judged by: one's own, a named list, or a file.

The lists `live` and `object` are the 25 prompts for live subjects and for objects of Ruiz et al.,
"DreamBooth: fine tuning text-to-image diffusion models for subject-driven generation", CVPR 2023.
"""

from pathlib import Path
from typing import Final

from boothline.config.evaluation import EvaluationConfig
from boothline.config.section import SUBJECT_FIELD
from boothline.errors import DataError
from boothline.pictures.prompts import read_prompts

MAX_PROMPTS: Final = 1000

_PLACES: Final = (
    "in the jungle",
    "in the snow",
    "on the beach",
    "on a cobblestone street",
    "on top of pink fabric",
    "on top of a wooden floor",
    "with a city in the background",
    "with a mountain in the background",
    "with a blue house in the background",
    "on top of a purple rug in a forest",
)
_OF_OBJECTS: Final = (
    "with a wheat field in the background",
    "with a tree and autumn leaves in the background",
    "with the Eiffel Tower in the background",
    "floating on top of water",
    "floating in an ocean of milk",
    "on top of green grass with sunflowers around it",
    "on top of a mirror",
    "on top of the sidewalk in a crowded street",
    "on top of a dirt road",
    "on top of a white rug",
)
_OF_LIVE_SUBJECTS: Final = (
    "wearing a red hat",
    "wearing a santa hat",
    "wearing a rainbow scarf",
    "wearing a black top hat and a monocle",
    "in a chef outfit",
    "in a firefighter outfit",
    "in a police outfit",
    "wearing pink glasses",
    "wearing a yellow shirt",
    "in a purple wizard outfit",
)
_PROPERTIES: Final = ("red", "purple", "shiny", "wet", "cube shaped")


def _paper_list(contexts: tuple[str, ...]) -> tuple[str, ...]:
    return (
        *(f"a {SUBJECT_FIELD} {context}" for context in (*_PLACES, *contexts)),
        *(f"a {adjective} {SUBJECT_FIELD}" for adjective in _PROPERTIES),
    )


OBJECT: Final = _paper_list(_OF_OBJECTS)
LIVE: Final = _paper_list(_OF_LIVE_SUBJECTS)
_PLACES_OF_TINY: Final = (
    "on grass",
    "on the beach",
    "in snow",
    "in the desert",
    "in the ocean",
    "in the night sky",
    "on the moon",
    "on a city street",
    *(
        f"on a {colour} background"
        for colour in ("red", "blue", "green", "yellow", "white", "black", "pink", "purple")
    ),
)
TINY: Final = tuple(f"a photo of a {SUBJECT_FIELD} {place}" for place in _PLACES_OF_TINY)
"""Every background that the tiny base knows: it has no hats, rugs or towers."""


def templates(evaluation: EvaluationConfig) -> tuple[str, ...]:
    """Return the prompt templates that an evaluation asks for, each with `{subject}`.

    Raises:
        DataError: the prompt file cannot be used, or a prompt in it lacks `{subject}`.
    """
    if evaluation.prompt_set == "file":
        return _from_file(Path(str(evaluation.prompts_file)))
    named = {"own": evaluation.prompts, "tiny": TINY, "live": LIVE, "object": OBJECT}
    return named[evaluation.prompt_set]


def _from_file(path: Path) -> tuple[str, ...]:
    """Return the prompts of a .txt, .csv or .jsonl file; its other columns play no part here."""
    prompts = tuple(row.prompt for row in read_prompts(path))
    lacking = next((prompt for prompt in prompts if SUBJECT_FIELD not in prompt), None)
    if lacking is not None:
        raise DataError(
            f"{path}: the prompt {lacking!r} lacks {SUBJECT_FIELD}.",
            remedy=f"Write {SUBJECT_FIELD} where identifier and class noun belong.",
        )
    if len(prompts) > MAX_PROMPTS:
        raise DataError(
            f"{path} holds {len(prompts)} prompts; an evaluation takes at most {MAX_PROMPTS}."
        )
    return prompts
