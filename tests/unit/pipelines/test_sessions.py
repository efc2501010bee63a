"""Which services a command uses: each setting of the environment counts by itself."""

import getpass
from collections.abc import Collection, Iterator
from pathlib import Path

import pytest
from command_files import write_pictures
from filelock import FileLock

from boothline import services
from boothline import settings as process_environment
from boothline.errors import ConfigError, ServiceError
from boothline.launch.local.folder import LOCK_FILE
from boothline.launch.local.session import existing_session, has_local_state, open_session
from boothline.launch.local.workflow import say_tracking
from boothline.services import Endpoints, ServiceStatus
from boothline.settings import Settings


@pytest.fixture(autouse=True)
def _fresh_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    monkeypatch.chdir(tmp_path)
    process_environment.current.cache_clear()
    yield
    process_environment.current.cache_clear()


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[set[str]]:
    """What the local services were asked to start, call by call; none is started."""
    calls: list[set[str]] = []

    def ensure(home: Path, *, only: Collection[str]) -> Endpoints:
        calls.append(set(only))
        local = {"s3_endpoint": "http://127.0.0.1:8373", "s3_access_key": "local"}
        if "mlflow" in only:
            local["mlflow_uri"] = "http://127.0.0.1:8350"
        return Endpoints(home=home, **local)

    monkeypatch.setattr(services, "ensure", ensure)
    return calls


@pytest.mark.proves("F67/services")
def test_own_mlflow_alone_is_used_with_the_local_store(started, monkeypatch) -> None:
    monkeypatch.setenv("BOOTHLINE_MLFLOW_URI", "http://mlflow.example.org:5000")

    session = open_session(None, tracking=True)

    assert started == [{"seaweedfs"}]
    assert session.settings.mlflow_uri == "http://mlflow.example.org:5000"
    assert session.environment["BOOTHLINE_MLFLOW_URI"] == "http://mlflow.example.org:5000"
    assert session.settings.s3_endpoint == "http://127.0.0.1:8373"


def test_own_store_alone_starts_nothing_and_tracks_nothing(started, monkeypatch) -> None:
    monkeypatch.setenv("BOOTHLINE_S3_ENDPOINT", "http://s3.example.org")
    monkeypatch.setenv("BOOTHLINE_S3_ACCESS_KEY", "mine")

    session = open_session(None, tracking=True)

    assert started == []
    assert (session.settings.s3_endpoint, session.settings.mlflow_uri) == (
        *("http://s3.example.org", ""),
    )


def test_no_setting_means_both_local_services(started) -> None:
    session = open_session(None, tracking=True)
    assert started == [{"seaweedfs", "mlflow"}]
    assert session.settings.mlflow_uri == "http://127.0.0.1:8350"


@pytest.mark.parametrize(("given", "shown"), [("", "somebody"), ("a robot", "a robot")])
def test_runs_name_who_started_them(started, monkeypatch, given, shown) -> None:
    monkeypatch.setattr(getpass, "getuser", lambda: "somebody")
    monkeypatch.setenv("BOOTHLINE_ACTOR", given)
    session = open_session(None)
    assert session.environment["BOOTHLINE_ACTOR"] == session.settings.actor == shown


@pytest.mark.parametrize("name", ["ACCESS_KEY", "SECRET_KEY", "SESSION_TOKEN", "CA_BUNDLE"])
def test_credentials_of_no_store_are_refused(started, monkeypatch, name) -> None:
    monkeypatch.setenv(f"BOOTHLINE_S3_{name}", "mine")

    with pytest.raises(ConfigError, match=f"BOOTHLINE_S3_{name} is set and BOOTHLINE_S3_ENDPOINT"):
        open_session(None)

    assert started == []


@pytest.mark.parametrize("missing", ["ACCESS_KEY", "SECRET_KEY"])
def test_store_without_its_keys_is_refused_by_name_and_nothing_is_started(
    cli, started, monkeypatch, missing
) -> None:
    monkeypatch.setenv("BOOTHLINE_S3_ENDPOINT", "http://127.0.0.1:9")
    for name in {"ACCESS_KEY", "SECRET_KEY"} - {missing}:
        monkeypatch.setenv(f"BOOTHLINE_S3_{name}", "mine")
    write_pictures("pictures", 3)

    code, _, said = cli("run", "pictures", "--set", "subject.class_noun=bear")

    assert code == 2
    assert f"BOOTHLINE_S3_ENDPOINT is set and BOOTHLINE_S3_{missing} is not." in said
    assert "unset BOOTHLINE_S3_ENDPOINT to use the local store" in said
    assert "Starting local services" not in said
    assert started == []


def test_what_only_looks_starts_nothing_and_says_how_to(started, tmp_path) -> None:
    (tmp_path / ".boothline" / "services").mkdir(parents=True)
    with pytest.raises(ServiceError, match="does not run") as caught:
        open_session(None, start=False)
    assert "boothline up" in caught.value.remedy
    assert started == []


def test_models_of_an_empty_folder_leaves_it_empty(cli, started, tmp_path) -> None:
    code, output, _ = cli("models")
    assert (code, output.strip()) == (0, "No model is registered yet.")
    assert started == []
    assert list(tmp_path.iterdir()) == []
    assert not has_local_state(None)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("rollback", "nemo"), "There is no model 'nemo'. No model is registered yet"),
        (("promote", "nemo", "2"), "There is no model 'nemo'. No model is registered yet"),
        (("generate", "a bear", "--model", "nemo"), "There is no model 'nemo'."),
        (("serve", "nemo"), "There is no model 'nemo'."),
        (("export", "nemo", "out"), "There is no model 'nemo'."),
        (("push", "nemo", "team/nemo", "--dry-run"), "There is no model 'nemo'."),
        (("base", "remove", "sd15"), "Nothing is stored in"),
        (("verify",), "Nothing is stored in"),
        (("gc",), "Nothing is stored in"),
        (
            ("init", "pictures", "--class-noun", "bear", "--base-model", "base:sd15"),
            "There is no model 'base:sd15': nothing is stored in",
        ),
    ],
)
def test_refusal_in_an_empty_folder_leaves_it_empty(cli, started, tmp_path, words, said) -> None:
    code, output, error = cli(*words)
    assert (code, output) == (2, "")
    assert said in " ".join(error.split())
    assert started == []
    assert list(tmp_path.iterdir()) == []


@pytest.fixture
def stopped(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[set[str]]:
    """A home with a store, and what of it was stopped, call by call; MLflow runs before."""
    (tmp_path / ".boothline" / "services").mkdir(parents=True)
    calls: list[set[str]] = []
    states = [
        ServiceStatus(name="seaweedfs", state="stopped", log=tmp_path / "log"),
        ServiceStatus(name="mlflow", state="running", log=tmp_path / "log"),
    ]
    monkeypatch.setattr(services, "status", lambda home: states)
    monkeypatch.setattr(services, "stop", lambda home, only: calls.append(set(only)))
    return calls


def test_refusal_stops_what_was_started_for_it_alone(started, stopped) -> None:
    with pytest.raises(ConfigError), existing_session(None):
        raise ConfigError("There is no such thing.")
    assert started == [{"seaweedfs", "mlflow"}]
    assert stopped == [{"seaweedfs"}]


def test_services_stay_after_a_command_that_succeeded(started, stopped) -> None:
    with existing_session(None) as session:
        assert session.settings.s3_endpoint
    assert (len(started), stopped) == (1, [])


def test_refusal_stops_nothing_that_a_run_has_begun_to_use(started, stopped, tmp_path) -> None:
    lock = FileLock(tmp_path / ".boothline" / LOCK_FILE)
    with lock, pytest.raises(ConfigError), existing_session(None):
        raise ConfigError("There is no such thing.")
    assert (len(started), stopped) == (1, [])


class Sayings(list[str]):
    """A display that keeps what is said."""

    def say(self, text: str) -> None:
        self.append(text)

    def show(self, progress: object) -> None:
        """Do nothing."""


@pytest.mark.proves("F67/outage")
def test_tracking_server_that_does_not_answer_is_said_before_training() -> None:
    said = Sayings()
    say_tracking(Settings(mlflow_uri="http://127.0.0.1:9"), said)
    (line,) = said
    assert line.startswith("Warning: MLflow: http://127.0.0.1:9/health does not answer: ")
    assert "The training continues without it" in line


def test_no_tracking_server_is_said() -> None:
    said = Sayings()
    say_tracking(Settings(), said)
    assert said == ["BOOTHLINE_MLFLOW_URI is not set: nothing goes to MLflow"]
