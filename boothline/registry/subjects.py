"""Whether a challenger and the champion are of one subject: a model name alone does not say so."""

from dataclasses import dataclass

from boothline.errors import DataError, NotFoundError
from boothline.registry.provenance import nearest
from boothline.results import Dataset, RuleResult
from boothline.store import ManifestRef, Store

RULE = "same_subject"
_PICTURES = "images/"


@dataclass(frozen=True)
class _Subject:
    """What a model was trained on: the sha256 of its pictures, and the noun of their class."""

    pictures: frozenset[str]
    class_noun: str


def judge_subject(store: Store, model: ManifestRef, champion: ManifestRef) -> RuleResult:
    """Refuse a champion of another subject: one that shares neither a picture nor the class noun.

    Two folders of one name give two subjects one model name, and the better picture of a cat is
    not a better picture of a dog.

    Args:
        store: holds the datasets that both were trained on.
        model: manifest of the challenger.
        champion: manifest of the champion.
    """
    ours, theirs = _subject_of(store, model), _subject_of(store, champion)
    if ours is None or theirs is None:
        text = "What the champion or this model was trained on is not known any more: passed."
        return RuleResult(name=RULE, passed=True, text=text)
    num_shared = len(ours.pictures & theirs.pictures)
    same_noun = ours.class_noun.lower() == theirs.class_noun.lower()
    nouns = f"its class is {theirs.class_noun!r}, this model's is {ours.class_noun!r}"
    if num_shared or same_noun:
        shared = f"{num_shared} of {len(ours.pictures)} pictures are the champion's"
        text = f"The subject is the champion's: {shared}, {nouns}: passed."
        return RuleResult(name=RULE, passed=True, text=text)
    text = (
        f"The champion is of another subject: no picture is in both, and {nouns}; give each subject"
        " its own subject.name, or promote by hand with --force: refused."
    )
    return RuleResult(name=RULE, passed=False, text=text)


def _subject_of(store: Store, model: ManifestRef) -> _Subject | None:
    """Return what a model was trained on; None when that cannot be read any more."""
    try:
        found = nearest(store, model, "dataset")
    except (NotFoundError, DataError):
        return None
    if found is None:
        return None
    _, dataset = found
    pictures = frozenset(entry.sha256 for entry in dataset.under(_PICTURES))
    return _Subject(pictures=pictures, class_noun=Dataset.of(dataset).class_noun)
