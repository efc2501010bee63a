"""The picture world: scenes depend on (seed, index) alone and never show what is held out."""

import json
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from models.build.scenes import SceneStore
from models.build.sprites import EmojiCatalogue, EmojiSourceError, ensure_emoji_art
from models.build.subjects import SUBJECTS, render_subject
from models.build.tokenizer import world_words
from models.build.vocabulary import (
    BACKGROUNDS,
    HELD_OUT_EMOJI,
    HELD_OUT_RENDITIONS,
    NOUNS,
    VOCABULARY,
    plain_caption,
)
from models.build.world import World


def make_art(root: Path) -> Path:
    """Write one-colour stand-ins for all three packages, every emoji in every style."""
    drawn = {name for noun in NOUNS for name in (*noun.emoji, *noun.heads)}
    names = sorted(drawn | HELD_OUT_EMOJI)
    rng = np.random.default_rng(0)
    records = []
    for number, name in enumerate(names):
        code = f"1{number:04x}"
        records.append(
            {
                "short_name": name,
                "short_names": [name],
                "image": f"{code}.png",
                "unified": code.upper(),
                "subcategory": "animal-mammal",
            }
        )
        for folder, file in (
            ("emoji-datasource-google/img/google/64", f"{code}.png"),
            ("emoji-datasource-twitter/img/twitter/64", f"{code}.png"),
            ("lobehub-fluent-emoji-3d/assets", f"{code}.webp"),
        ):
            (root / folder).mkdir(parents=True, exist_ok=True)
            colour = tuple(int(value) for value in rng.integers(0, 255, 3))
            Image.new("RGBA", (8, 8), (*colour, 255)).save(root / folder / file)
    (root / "emoji-datasource-google" / "emoji.json").write_text(json.dumps(records))
    return root


@pytest.fixture(scope="session")
def emoji_art(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_art(tmp_path_factory.mktemp("art"))


@pytest.fixture
def world(emoji_art: Path) -> World:
    return World(EmojiCatalogue(emoji_art), seed=5)


def pixels(picture: Image.Image) -> bytes:
    return picture.tobytes()


def test_world_scene_is_identical_across_orders_and_worlds(emoji_art: Path, world: World) -> None:
    forwards = [world.captioned(index) for index in range(12)]
    other = World(EmojiCatalogue(emoji_art), seed=5)
    backwards = [other.captioned(index) for index in reversed(range(12))]
    for first, second in zip(forwards, reversed(backwards), strict=True):
        assert pixels(first.picture) == pixels(second.picture)
        assert first.caption == second.caption


def test_world_scene_of_another_seed_or_domain_differs(emoji_art: Path, world: World) -> None:
    other = World(EmojiCatalogue(emoji_art), seed=6)
    assert pixels(world.captioned(3).picture) != pixels(other.captioned(3).picture)
    assert pixels(world.captioned(3).picture) != pixels(world.wide(3).picture)


def test_world_never_draws_what_is_held_out(world: World) -> None:
    drawn = [rendition for part in world.noun_renditions for rendition in part]
    drawn += world.wide_renditions
    assert drawn
    assert not {rendition.emoji for rendition in drawn} & HELD_OUT_EMOJI
    assert not {(rendition.emoji, rendition.style) for rendition in drawn} & HELD_OUT_RENDITIONS


def test_subjects_are_all_held_out_and_of_a_known_noun() -> None:
    for subject in SUBJECTS:
        rendition = (subject.emoji, subject.style)
        assert subject.emoji in HELD_OUT_EMOJI or rendition in HELD_OUT_RENDITIONS
        assert subject.class_noun in VOCABULARY.noun_names


def test_world_captions_name_the_noun_that_is_drawn(world: World) -> None:
    for index in range(60):
        scene = world.captioned(index)
        noun = NOUNS[scene.noun]
        assert noun.name in scene.caption
        assert scene.rendition.emoji in (*noun.emoji, *noun.heads)


def test_world_captions_hold_only_words_that_the_tokenizer_learns(world: World) -> None:
    known = set(world_words())
    captions = " ".join(world.captioned(index).caption for index in range(300))
    spoken = set(re.findall("[a-z]+|[0-9]", captions))
    assert len(spoken) > 60
    assert spoken <= known


def test_plain_caption_with_background_reads_as_english() -> None:
    grass, snow = BACKGROUNDS[0], BACKGROUNDS[2]
    assert plain_caption("apple", grass) == "a photo of an apple on grass"
    assert plain_caption("dog", snow) == "a photo of a dog in snow"


def test_scene_store_reads_back_what_it_drew(world: World, tmp_path: Path) -> None:
    drawn = SceneStore(world, folder=tmp_path).captioned(6)
    again = SceneStore(world, folder=tmp_path).captioned(6)
    assert drawn.captions == again.captions == [world.captioned(n).caption for n in range(6)]
    assert np.array_equal(again.pixels_NHWC[4], np.asarray(world.captioned(4).picture))


def test_scene_store_held_out_scenes_differ_from_training(world: World, tmp_path: Path) -> None:
    store = SceneStore(world, folder=tmp_path)
    training, held_out = store.captioned(6), store.captioned(6, held_out=True)
    assert not np.array_equal(training.pixels_NHWC, held_out.pixels_NHWC)


def test_scene_store_with_two_processes_draws_the_same_scenes(world: World, tmp_path: Path) -> None:
    alone = SceneStore(world, folder=tmp_path / "alone").wide(5)
    together = SceneStore(world, folder=tmp_path / "together", num_processes=2).wide(5)
    assert np.array_equal(alone.pixels_NHWC, together.pixels_NHWC)
    assert np.array_equal(alone.instances, together.instances)


def test_subjects_for_settings_are_fewer_than_those_for_figures_alone() -> None:
    chosen = [subject.name for subject in SUBJECTS if subject.for_settings]
    assert chosen == ["teddy-bear", "tropical-fish"]
    assert len(SUBJECTS) >= 6


def test_render_subject_writes_pictures_with_captions(emoji_art: Path, tmp_path: Path) -> None:
    pictures = render_subject(
        SUBJECTS[0], catalogue=EmojiCatalogue(emoji_art), seed=1, output=tmp_path
    )
    assert len(pictures) == 5
    assert pictures[0].with_suffix(".txt").read_text() == "a photo of {subject} on grass\n"
    with Image.open(pictures[0]) as picture:
        assert picture.size == (288, 288)


def test_ensure_emoji_art_with_another_version_refuses(tmp_path: Path) -> None:
    folder = tmp_path / "emoji-datasource-google"
    folder.mkdir()
    (folder / "package.json").write_text('{"version": "1.2.3"}')
    with pytest.raises(EmojiSourceError, match=r"1\.2\.3, not 16\.0\.0"):
        ensure_emoji_art(tmp_path)
