"""Champions and words of models of several subjects."""

from pathlib import Path

import pytest

from boothline.facts import SubjectPart, SubjectWords
from boothline.registry.subjects import judge_subject
from boothline.results import Dataset, Model
from boothline.store import ManifestRef, Store
from boothline.store.memory import memory_store


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return memory_store(tmp_path / "blobs")


def model_of(store: Store, name: str, *nouns: str) -> ManifestRef:
    """Commit a model of subjects of these classes, each with a picture of its own."""
    refs = [
        store.commit(
            f"steps/validate_data/{name}-{noun}",
            Dataset(class_noun=noun).draft({"images/0.png": f"{name} {noun}".encode()}),
        )
        for noun in nouns
    ]
    parts = tuple(
        SubjectPart(subject=noun, content=store.read(ref).content_digest)
        for noun, ref in zip(nouns, refs, strict=True)
    )
    whole = refs[0]
    if len(nouns) > 1:
        draft = Dataset(parts=parts).draft(inputs=tuple(refs))
        whole = store.commit(f"steps/validate_data/{name}", draft)
    return store.commit(f"steps/publish_checkpoint/{name}", Model().draft(inputs=(whole,)))


@pytest.mark.parametrize(
    ("ours", "theirs", "passes"),
    [
        (("bear", "robot"), ("bear", "robot"), True),
        (("robot", "bear", "cat"), ("bear", "robot"), True),
        (("bear", "robot"), ("bear",), True),
        (("bear",), ("bear", "robot"), False),
        (("bear", "cat"), ("bear", "robot"), False),
    ],
)
def test_champion_is_replaced_by_a_model_of_all_its_subjects(store, ours, theirs, passes) -> None:
    rule = judge_subject(store, model_of(store, "ours", *ours), model_of(store, "theirs", *theirs))
    assert rule.passed is passes
    if not passes:
        assert "its class is 'robot'" in rule.text


BEAR = SubjectWords(name="bear", identifier="sks", class_noun="bear")
ROBOT = SubjectWords(name="robot", identifier="zwx", class_noun="robot")


@pytest.mark.parametrize(
    ("model", "subject", "noun", "identifier"),
    [
        (Model(subjects=(BEAR, ROBOT)), "robot", "robot", "zwx"),
        (Model(subjects=(BEAR, ROBOT)), "toy", "robot", "zwx"),
        (Model(subjects=(BEAR, ROBOT)), "", "bear", "sks"),
        (Model(subjects=(BEAR, ROBOT)), "cat", "cat", ""),
        (Model(identifier="sks", class_noun="bear"), "", "robot", "sks"),
        (Model(identifier="sks", class_noun="bear"), "bear", "bear", "sks"),
        (Model(identifier="sks", class_noun="bear"), "robot", "robot", ""),
    ],
)
def test_model_is_asked_by_its_own_words_for_the_subject(model, subject, noun, identifier) -> None:
    """By name, then by class; a model that has neither is asked by the words of the run."""
    assert model.words(subject, noun).identifier == identifier


def test_phrases_of_a_model_are_those_of_each_subject() -> None:
    assert Model(subjects=(BEAR, ROBOT)).phrases == ("sks bear", "zwx robot")
    assert Model(identifier="sks", class_noun="bear").phrases == ("sks bear",)
    assert Model().phrases == ("",)
