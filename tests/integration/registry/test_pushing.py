"""A registered model on a hub: what is uploaded, and what its card says."""

import json
from collections.abc import Iterator

import huggingface_hub.constants
import pytest
import yaml
from hub_repository import TOKEN, Repository, hub_repository
from integration.report.synthetic_run import RUN_ID, SyntheticRun
from rich.console import Console

from boothline.cli.exporting import _say_push
from boothline.errors import ConfigError, IntegrityError, ModelNotFoundError, ServiceError
from boothline.launch.local.session import Session
from boothline.launch.pushing import push_model
from boothline.registry.versions import ModelVersion, ensure_version
from boothline.results import Dataset, Model, ModelBase
from boothline.runs import read_steps, write_step
from boothline.settings import Settings
from boothline.store import Store

pytestmark = pytest.mark.services
REPOSITORY = "my-team/teddy"
WEIGHTS = b"w" * 40_000


@pytest.fixture
def session(store: Store, store_settings: Settings) -> Session:
    session = Session(home=store_settings.home, environment={})
    session.__dict__.update(store=store, settings=store_settings)
    return session


class Run(SyntheticRun):
    """A run whose model says what it was made from."""

    def train(self) -> None:
        super().train()
        record = next(one for one in read_steps(self.store, RUN_ID) if one.step == "train")
        parts = {"config": {"training": {"num_steps": 120, "method": "full"}, "world_size": 1}}
        write_step(self.store, RUN_ID, record.model_copy(update={"key_parts": parts}))

    def publish(self) -> None:
        facts = Model(
            model_name=self.config.model_name,
            identifier="sks",
            class_noun="teddy bear",
            base_model=ModelBase(source="builtin:tiny-emoji-sd", digest="0" * 64),
            method="full",
            state="5" * 64,
        )
        files = {
            "diffusers/model_index.json": b"{}",
            "diffusers/unet/weights.safetensors": WEIGHTS,
        }
        inputs = self._inputs("train", "validate_data")
        self.step("publish_checkpoint", facts.draft(files, inputs=inputs), seconds=6.1)


@pytest.fixture
def run(store: Store) -> Run:
    run = Run(store)
    run.complete()
    run.record("done")
    return run


@pytest.fixture
def version(run: Run, session: Session) -> ModelVersion:
    ref = run.refs["publish_checkpoint"]
    name = run.config.model_name
    return ensure_version(session.store, session.settings, model_name=name, ref=ref)


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[Repository]:
    with hub_repository(REPOSITORY) as told:
        monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", told.url)
        monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_DISABLE_XET", True)
        monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
        monkeypatch.setenv("HF_TOKEN", TOKEN)
        yield told


def push(session: Session, version: ModelVersion, **options):
    return push_model(
        session,
        model=(version.name, str(version.version)),
        repository=options.pop("repository", REPOSITORY),
        form="diffusers",
        **options,
    )


@pytest.mark.proves("F63")
def test_push_uploads_weights_pictures_and_card_as_one_commit(
    session: Session, run: Run, version: ModelVersion, hub: Repository
) -> None:
    done = push(session, version)
    assert done.url == f"{hub.url}/{REPOSITORY}/commit/{'0' * 40}"
    assert hub.header["summary"] == f"{version.name}, version {version.version}"
    assert hub.header["description"] == f"Manifest {version.ref}"
    assert [each["visibility"] for each in hub.created] == ["private"]
    assert {name: len(content) for name, content in hub.files.items()} == done.files
    assert hub.files["unet/weights.safetensors"] == WEIGHTS
    assert hub.files["README.md"].decode() == done.card
    evaluation = run.refs["evaluate"]
    for name in ("p00-s00.png", "p03-s00.png"):
        drawn = session.store.read_bytes(evaluation, f"images/finetuned/{name}")
        assert hub.files[f"pictures/{name}"] == drawn
    provenance = json.loads(hub.files["provenance.json"])
    assert provenance["manifest"] == str(version.ref)
    trained_on = session.store.read(run.refs["validate_data"]).under("images/")
    mine = {session.store.read_bytes(run.refs["validate_data"], e.path) for e in trained_on}
    assert mine.isdisjoint(hub.files.values())


@pytest.mark.proves("F63")
def test_card_has_licence_pictures_scores_verdict_settings_and_provenance(
    session: Session, run: Run, version: ModelVersion
) -> None:
    card = push(session, version, dry_run=True).card
    _, header, body = card.split("---\n", 2)
    said = yaml.safe_load(header)
    assert said["license"] == "apache-2.0"
    assert (said["library_name"], said["pipeline_tag"]) == ("diffusers", "text-to-image")
    assert said["instance_prompt"] == "a photo of sks teddy bear"
    assert "base_model" not in said  # it is not on the hub
    prompts = [run.config.subject.fill(prompt) for prompt in run.prompts[:4]]
    assert [item["text"] for item in said["widget"]] == prompts
    assert said["widget"][0]["output"]["url"] == "pictures/p00-s00.png"
    assert f"![{prompts[0]}](pictures/p00-s00.png)" in body
    num_pictures = session.store.read_as(Dataset, run.refs["validate_data"]).num_images
    assert f"personalised on {num_pictures} pictures" in body
    assert "## Gate: promoted\n\n- Subject fidelity (DINO) gains +0.271" in body
    scores = body.partition("## Scores")[2].partition("##")[0]
    assert "| dino | " in scores
    assert " to +" in scores
    assert f"| manifest | `{version.ref}` |" in body
    assert f"| pictures | `{run.refs['validate_data']}` |" in body
    assert "apache-2.0, holds for this model" in body
    assert f"DiffusionPipeline.from_pretrained('{REPOSITORY}')" in body


@pytest.mark.proves("F63")
def test_card_names_the_settings_of_the_training_that_made_it(
    session: Session, run: Run, version: ModelVersion
) -> None:
    settings = push(session, version, dry_run=True).card.partition("## Settings of the training")[2]
    assert "`training.num_steps` | 120 |" in settings


@pytest.mark.proves("F63")
def test_dry_run_shows_card_and_files_and_asks_no_hub(
    session: Session, version: ModelVersion, hub: Repository
) -> None:
    done = push(session, version, dry_run=True)
    console = Console(record=True, width=200)
    _say_push(console, done)
    shown = console.export_text()
    assert shown.startswith(f"Would push version {version.version} of {version.name}")
    assert "  unet/weights.safetensors  40,000 B" in shown
    assert "# " + version.name in shown
    assert (done.url, hub.created, hub.files) == ("", [], {})


def test_version_that_nobody_evaluated_has_a_card_without_scores_and_pictures(
    session: Session, hub: Repository
) -> None:
    facts = Model(
        identifier="sks", class_noun="cat", base_model=ModelBase(source="a/b@" + "0" * 40)
    )
    draft = facts.draft({"diffusers/model_index.json": b"{}"})
    ref = session.store.commit("steps/publish_checkpoint/bare", draft)
    bare = ensure_version(session.store, session.settings, model_name="boothline-cat", ref=ref)
    push(session, bare, private=False)
    card = hub.files["README.md"].decode()
    header = yaml.safe_load(card.split("---\n")[1])
    assert (header["license"], header["base_model"], header["widget"]) == ("unknown", "a/b", [])
    assert "## Scores" not in card
    assert "it is not known here" in card
    assert hub.created[0]["visibility"] == "public"


def test_push_that_the_hub_refuses_says_what_it_needs(
    session: Session, version: ModelVersion, hub: Repository
) -> None:
    hub.refuses = True
    with pytest.raises(ServiceError, match=f"Could not push {version.name}") as caught:
        push(session, version)
    assert "write access" in caught.value.remedy
    with pytest.raises(ConfigError, match="not the name of a repository"):
        push(session, version, repository="my team/teddy")
    with pytest.raises(ModelNotFoundError):
        push_model(session, model=("boothline-dog", "1"), repository=REPOSITORY, form="diffusers")


def test_push_of_a_damaged_model_uploads_nothing(
    session: Session, run: Run, version: ModelVersion, hub: Repository, tmp_path
) -> None:
    entry = session.store.read(version.ref).entry("diffusers/unet/weights.safetensors")
    session.store.bucket.put(f"blobs/sha256/{entry.sha256[:2]}/{entry.sha256}", b"x" * 40_000)
    elsewhere = session.settings.model_copy(update={"home": tmp_path / "other"})
    session.__dict__.update(store=Store.connect(elsewhere), settings=elsewhere)
    with pytest.raises(IntegrityError):
        push(session, version)
    assert (hub.created, hub.files) == ([], {})
