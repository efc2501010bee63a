"""Where everything is in the store: every prefix, the rule of a key, and which names it accepts.

```
blobs/sha256/<2 hex>/<sha256>            every byte once
steps/<step>/<key>                       results of steps
training/<key>/step-<n>                  states of the training with that step key
trainjobs/<key>/...                      what its nodes are sent and send back
priors/<series>/<first>-<size>           class pictures, in chunks that runs share
evaluations/parts/<set>/<n>              pictures that models are judged by, batch by batch
evaluations/pictures/<set>               the same as a whole
batches/<key>/...                        pictures of an unfinished batch inference
runs/<run id>/run.json, steps/, mlflow/  what is remembered of a run
ledger/promotions/<n>.json               promotions and rollbacks, without gaps
bases/<digest>                           base models and encoders
bases/names/<name>.json                  what people call them
registry/<model>/...                     versions, their numbers, what MLflow shows
retrain/<model>/<n>.json                 reasons that runs have claimed
signatures/<digest>.json                 signatures of models
gc/..., probes/...                       garbage collection and self-tests
```

Manifests are committed at paths, `<path>/manifest.json`; records are JSON objects at keys.
"""

import re
from collections.abc import Mapping
from typing import Final

from boothline.errors import ConfigError
from boothline.store.manifest import digest_of

BLOBS: Final = "blobs/"
STEPS: Final = "steps/"
TRAINING: Final = "training/"
JOBS: Final = "trainjobs/"
RUNS: Final = "runs/"
LEDGER: Final = "ledger/"
REGISTRY: Final = "registry/"
BASES: Final = "bases/"
GC: Final = "gc/"
PROBES: Final = "probes/"

BASE_NAMES: Final = f"{BASES}names/"
PROMOTIONS: Final = f"{LEDGER}promotions/"
SWEEPS: Final = f"{GC}sweeps/"
CURRENT_SWEEP: Final = f"{GC}sweep.json"
CONDITIONAL_PUT_PROBE: Final = f"{PROBES}conditional-put"
PERMISSIONS_PROBE: Final = f"{PROBES}permissions"

STEP_RECORD: Final = re.compile(rf"{RUNS}[^/]+/steps/[^/]+\.json")
PROMOTION: Final = re.compile(rf"{PROMOTIONS}(\d+)\.json")
ALIASES: Final = re.compile(rf"{REGISTRY}[^/]+/aliases\.json")
VERSION: Final = re.compile(rf"{REGISTRY}(?P<model_name>[^/]+)/[0-9a-f]{{64}}\.json")
VERSION_NUMBER: Final = re.compile(rf"{REGISTRY}[^/]+/numbers/(?P<number>\d+)\.json")
SWEEP: Final = re.compile(rf"{SWEEPS}(\d+)\.json")

_KEY_LENGTH: Final = 32
MANIFEST_NAME: Final = "manifest.json"
_MAX_LENGTH: Final = 512
_SEGMENT: Final = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]*")
_ADVICE: Final = "Names are letters, digits, '.', '_' and '-', joined by '/'."


def key_of(parts: Mapping[str, object]) -> str:
    """Return the key of what depends on these parts: 32 hexadecimal digits of their digest."""
    return digest_of(parts)[:_KEY_LENGTH]


def blob(sha256: str) -> str:
    """Return where a blob is."""
    return f"{BLOBS}sha256/{sha256[:2]}/{sha256}"


def step_results(step: str) -> str:
    """Return the folder of a step's results."""
    return f"{STEPS}{step}/"


def step_result(step: str, key: str) -> str:
    """Return where a step with that key commits its result."""
    return f"{step_results(step)}{key}"


def training_states(key: str) -> str:
    """Return the folder, without its slash, of the states of the training with that step key."""
    return f"{TRAINING}{key}"


def node_files(key: str) -> str:
    """Return the folder, without its slash, of what the nodes of a training exchange."""
    return f"{JOBS}{key}"


def is_manifest(key: str) -> bool:
    """Return whether an object is a manifest."""
    return key.endswith(f"/{MANIFEST_NAME}") and not key.startswith(BLOBS)


def manifest_path(key: str) -> str:
    """Return the path of a manifest from the key of its object."""
    return key.removesuffix(f"/{MANIFEST_NAME}")


def key_in(path: str) -> str:
    """Return the last part of a path: the key of a result, or of a training's states."""
    return path.rsplit("/", 1)[-1]


def chunks(series: str) -> str:
    """Return the folder of the class pictures of a series."""
    return f"priors/{series}/"


def chunk(series: str, *, first: int, size: int) -> str:
    """Return where a chunk of class pictures is committed."""
    return f"{chunks(series)}{first:06d}-{size}"


def picture_set(key: str) -> str:
    """Return where the pictures that a model is judged by are committed as a whole."""
    return f"evaluations/pictures/{key}"


def picture_set_part(key: str, number: int) -> str:
    """Return where a batch of those pictures is committed."""
    return f"evaluations/parts/{key}/{number:04d}"


def batch_parts(key: str) -> str:
    """Return the folder, without its slash, of the pictures of an unfinished batch inference."""
    return f"batches/{key}"


def run_folder(run_id: str) -> str:
    """Return the folder of all records of a run."""
    return f"{RUNS}{run_id}/"


def run_record(run_id: str) -> str:
    """Return where a run is remembered."""
    return f"{run_folder(run_id)}run.json"


def step_records(run_id: str) -> str:
    """Return the folder of the records of a run's steps."""
    return f"{run_folder(run_id)}steps/"


def step_record(run_id: str, label: str) -> str:
    """Return where a step of a run, or one of its shards, is remembered."""
    return f"{step_records(run_id)}{label}.json"


def run_of(key: str) -> str:
    """Return the run id in the key of one of a run's records."""
    return key.split("/")[1]


def mlflow_run(run_id: str, step: str) -> str:
    """Return where the MLflow run of a run's step is remembered."""
    return f"{run_folder(run_id)}mlflow/{step}.json"


def base(digest: str) -> str:
    """Return where a base model or an encoder of that digest is committed."""
    return f"{BASES}{digest[:_KEY_LENGTH]}"


def base_name(name: str) -> str:
    """Return where is recorded which model a name means."""
    return f"{BASE_NAMES}{name}.json"


def promotion(number: int) -> str:
    """Return where an entry of the ledger is."""
    return f"{PROMOTIONS}{number:06d}.json"


def registered(model_name: str) -> str:
    """Return the folder of the records of a registered model."""
    return f"{REGISTRY}{model_name}/"


def aliases(model_name: str) -> str:
    """Return where is remembered what MLflow shows as champion and challenger."""
    return f"{registered(model_name)}aliases.json"


def version(model_name: str, digest: str) -> str:
    """Return where the version of a model manifest is recorded.

    Args:
        model_name: the registered model.
        digest: digest of the manifest.
    """
    return f"{registered(model_name)}{digest}.json"


def version_number(model_name: str, number: int) -> str:
    """Return where a version number is claimed."""
    return f"{registered(model_name)}numbers/{number:06d}.json"


def claims(model_name: str) -> str:
    """Return the folder of the reasons to train that runs have claimed."""
    return f"retrain/{model_name}/"


def claim(model_name: str, number: int) -> str:
    """Return where a claim is recorded."""
    return f"{claims(model_name)}{number:06d}.json"


def signature(content_digest: str) -> str:
    """Return where the signature of a model is kept."""
    return f"signatures/{content_digest}.json"


def sweep(number: int) -> str:
    """Return where a garbage collection is claimed."""
    return f"{SWEEPS}{number:06d}.json"


def probe(name: str) -> str:
    """Return where a self-test writes."""
    return f"{PROBES}{name}"


def check_manifest_path(path: str) -> str:
    """Return the path of a manifest, e.g. `steps/train/<key>`, unchanged.

    Raises:
        ConfigError: it is not a plain relative path, or lies among the blobs.
    """
    _check(path, what="manifest path")
    if path.rsplit("/", 1)[-1] == MANIFEST_NAME:
        raise ConfigError(
            f"{path!r} is not a manifest path.", remedy=f"Leave out the trailing /{MANIFEST_NAME}."
        )
    return path


def check_record_path(path: str) -> str:
    """Return the path of a record, e.g. `runs/<run id>/run.json`, unchanged.

    Raises:
        ConfigError: it is not a plain relative path that ends with .json, or it names a manifest.
    """
    _check(path, what="record path")
    if not path.endswith(".json") or path.rsplit("/", 1)[-1] == MANIFEST_NAME:
        raise ConfigError(
            f"{path!r} is not a record path.",
            remedy=f"It must end with .json, but not be a {MANIFEST_NAME}.",
        )
    return path


def check_listing(prefix: str) -> str:
    """Return a folder to list, e.g. `training/<key>/`, with exactly one trailing slash.

    Raises:
        ConfigError: it is empty, not a plain relative path, or lies among the blobs.
    """
    folder = prefix.removesuffix("/")
    _check(folder, what="listing prefix")
    return f"{folder}/"


def check_prefix(prefix: str) -> str:
    """Return the key prefix of a whole store without outer slashes; empty is allowed.

    Raises:
        ConfigError: it is not a plain relative path.
    """
    inner = prefix.strip("/")
    if inner:
        _check_segments(inner, what="store prefix")
    return inner


def _check(path: str, *, what: str) -> None:
    _check_segments(path, what=what)
    if path.split("/", 1)[0] == BLOBS.rstrip("/"):
        raise ConfigError(
            f"The {what} {path!r} lies among the blobs.", remedy="Choose another first folder."
        )


def _check_segments(path: str, *, what: str) -> None:
    if len(path) > _MAX_LENGTH:
        raise ConfigError(
            f"The {what} {path[:40]!r}... is {len(path)} characters long.",
            remedy=f"At most {_MAX_LENGTH} are allowed.",
        )
    if not all(_SEGMENT.fullmatch(segment) for segment in path.split("/")):
        raise ConfigError(f"{path!r} is not a valid {what}.", remedy=_ADVICE)
