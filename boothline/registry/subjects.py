"""Whether a challenger and the champion are of one subject: a model name alone does not say so."""

from collections.abc import Sequence
from dataclasses import dataclass

from boothline.errors import DataError, NotFoundError
from boothline.registry.provenance import nearest
from boothline.results import Dataset, RuleResult
from boothline.store import ManifestRef, Store
from boothline.subjects import parts_of

RULE = "same_subject"
_PICTURES = "images/"


@dataclass(frozen=True)
class _Subject:
    """What a model was trained on: the sha256 of its pictures, and the noun of their class."""

    pictures: frozenset[str]
    class_noun: str

    def is_like(self, other: "_Subject") -> bool:
        """Return whether both are of one class."""
        return self.class_noun.lower() == other.class_noun.lower()


def judge_subject(store: Store, model: ManifestRef, champion: ManifestRef) -> RuleResult:
    """Refuse a champion of another subject: one that shares neither a picture nor the class noun.

    A champion of several subjects is replaced by a model that has all of them.

    Two folders of one name give two subjects one model name, and the better picture of a cat is
    not a better picture of a dog.

    Args:
        store: holds the datasets that both were trained on.
        model: manifest of the challenger.
        champion: manifest of the champion.
    """
    ours, theirs = _subjects_of(store, model), _subjects_of(store, champion)
    if not ours or not theirs:
        text = "What the champion or this model was trained on is not known any more: passed."
        return RuleResult(name=RULE, passed=True, text=text)
    rules = [_judge_one(ours, one) for one in theirs]
    return next((rule for rule in rules if not rule.passed), rules[0])


def _judge_one(several: Sequence[_Subject], theirs: _Subject) -> RuleResult:
    """Compare one subject of the champion's with that of ours which is most like it."""
    ours = max(several, key=lambda one: (len(one.pictures & theirs.pictures), one.is_like(theirs)))
    num_shared, same_noun = len(ours.pictures & theirs.pictures), ours.is_like(theirs)
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


def _subjects_of(store: Store, model: ManifestRef) -> list[_Subject]:
    """Return what a model was trained on; nothing when that cannot be read any more."""
    try:
        found = nearest(store, model, Dataset.kind)
        parts = parts_of(store, found[0]).values() if found else ()
        datasets = [store.read(ref) for ref in parts]
    except (NotFoundError, DataError):
        return []
    return [
        _Subject(
            pictures=frozenset(entry.sha256 for entry in dataset.under(_PICTURES)),
            class_noun=Dataset.of(dataset).class_noun,
        )
        for dataset in datasets
    ]
