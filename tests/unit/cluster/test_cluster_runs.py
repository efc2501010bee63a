"""Runs on Kubeflow Pipelines against an API over HTTP: started once, followed, ended, scheduled."""

import json
from typing import Any

import pytest
from kfp_deployment import CONFIG, RUN_ID, api_of, deployment, submit
from kfp_fake import FakePipelines

from boothline.catalogue import PIPELINES, steps_of
from boothline.config import RunConfig
from boothline.config.fields import MODELS, PATHS
from boothline.errors import (
    BoothlineError,
    ConfigError,
    InterruptedRunError,
    NotFoundError,
    ServiceError,
)
from boothline.launch.cluster import runs
from boothline.launch.cluster.client import PipelinesApi
from boothline.launch.cluster.runs import Patience, Schedule, check_reachable
from boothline.launch.cluster.states import ClusterRun
from boothline.runs import resolved_run_id, trial_of
from boothline.settings import Settings

QUICK = Patience(poll_seconds=0.001, outage_seconds=0.05)


def follow(server: FakePipelines, run: ClusterRun, seen: list[str] | None = None) -> ClusterRun:
    states = seen if seen is not None else []
    return runs.follow(
        api_of(server),
        run,
        deployment=deployment(server),
        on_state=lambda run: states.append(run.state),
        patience=QUICK,
    )


def test_submit_sends_the_run_with_its_arguments(server: FakePipelines) -> None:
    run, is_new = submit(server)
    assert is_new
    (sent,) = server.kept["runs"].values()
    assert sent["display_name"] == RUN_ID
    assert sent["service_account"] == "editor"
    assert sent["runtime_config"]["parameters"]["run_id"] == RUN_ID
    named = sent["pipeline_version_reference"]
    document = server.kept["versions"][named["pipeline_version_id"]]["pipeline_spec"]
    assert document["pipeline_spec"]["pipelineInfo"]["name"] == "dreambooth"
    assert "kubernetes" in document["platform_spec"]["platforms"]
    pipeline = server.kept["pipelines"][named["pipeline_id"]]
    assert (pipeline["display_name"], pipeline["namespace"]) == ("boothline-dreambooth", "ml")
    (experiment,) = server.kept["experiments"].values()
    assert experiment["namespace"] == "ml"
    assert sent["experiment_id"] == experiment["experiment_id"]
    assert run.url.endswith(f"/#/runs/details/{run.kfp_run_id}")


def test_run_of_that_name_in_another_experiment_is_not_taken_for_ours(
    server: FakePipelines,
) -> None:
    others = deployment(server, experiment="another-team")
    api = PipelinesApi(others.kfp, settings=Settings())
    theirs, _ = runs.submit(api, others, CONFIG, run_id=RUN_ID, pipeline="dreambooth")
    assert api_of(server).find_run(RUN_ID) is None
    ours, is_new = submit(server)
    assert is_new
    assert ours.kfp_run_id != theirs.kfp_run_id


def test_single_user_api_is_asked_for_no_namespace(server: FakePipelines) -> None:
    kfp = deployment(server, multi_user=False).kfp
    PipelinesApi(kfp, settings=Settings()).experiment_id()
    (experiment,) = server.kept["experiments"].values()
    assert experiment.get("namespace") is None


def test_sweep_is_submitted_and_scheduled_with_its_trials(server: FakePipelines) -> None:
    value = {**CONFIG.model_dump(mode="json"), "sweep": {"grid": {"training.num_steps": [10, 20]}}}
    config = RunConfig.model_validate(value)
    runs.submit(api_of(server), deployment(server), config, run_id=RUN_ID, pipeline="sweep")
    runs.register(
        api_of(server),
        deployment(server),
        config,
        schedule=Schedule(name="nightly", cron="0 0 2 * * *", pipeline="sweep"),
    )
    for kind in ("runs", "recurringruns"):
        (sent,) = server.kept[kind].values()
        given = sent["runtime_config"]["parameters"]["trials"]
        assert [json.loads(trial["config"])["training"]["num_steps"] for trial in given] == [10, 20]


def test_sweep_with_nothing_to_try_is_refused_before_anything_is_sent(
    server: FakePipelines,
) -> None:
    with pytest.raises(ConfigError, match="nothing to try"):
        runs.submit(api_of(server), deployment(server), CONFIG, run_id=RUN_ID, pipeline="sweep")
    assert server.requests == []


def test_submitting_the_same_run_id_again_finds_the_run(server: FakePipelines) -> None:
    first, _ = submit(server)
    second, is_new = submit(server)
    assert not is_new
    assert second.kfp_run_id == first.kfp_run_id
    assert len(server.kept["runs"]) == 1


def test_follow_sees_success(server: FakePipelines) -> None:
    run, _ = submit(server)
    states: list[str] = []
    end = follow(server, run, states)
    assert states == ["PENDING", "RUNNING", "SUCCEEDED"]
    assert runs.error_of(end) is None


def test_follow_sees_failure_and_names_the_task(server: FakePipelines) -> None:
    server.states = ("RUNNING", "FAILED")
    server.tasks = [
        {"display_name": "Validate data", "state": "SUCCEEDED"},
        {"display_name": "Train", "state": "FAILED", "error": {"message": "exit code 3"}},
    ]
    run, _ = submit(server)
    error = runs.error_of(follow(server, run))
    assert isinstance(error, BoothlineError)
    assert error.exit_code == 1
    assert "at Train: exit code 3" in error.message
    assert f"boothline resume {RUN_ID}" in error.remedy


@pytest.mark.proves("F61/states")
def test_run_called_succeeded_with_a_failed_task_is_failed_and_can_be_resumed(
    server: FakePipelines,
) -> None:
    server.states = ("SUCCEEDED",)
    server.tasks = [
        {"display_name": "Train", "state": "FAILED", "error": {"message": "exit code 3"}},
        {"display_name": "Finish run", "state": "SUCCEEDED"},
    ]
    run, _ = submit(server)
    end = follow(server, run)
    error = runs.error_of(end)
    assert end.state == "FAILED"
    assert end.error == "Kubeflow Pipelines says SUCCEEDED, but Train failed"
    assert isinstance(error, BoothlineError)
    assert "at Train: exit code 3" in error.message
    assert runs.resume(api_of(server), deployment(server), RUN_ID).run_id == RUN_ID


def test_run_whose_failed_attempt_was_tried_again_is_a_success(server: FakePipelines) -> None:
    server.states = ("SUCCEEDED",)
    server.tasks = [
        {"display_name": "executor(0)", "state": "FAILED"},
        {"display_name": "executor(1)", "state": "SUCCEEDED"},
        {"display_name": "executor", "state": "SUCCEEDED"},
    ]
    run, _ = submit(server)
    assert runs.error_of(follow(server, run)) is None


def test_follow_sees_cancellation(server: FakePipelines) -> None:
    server.states = ("RUNNING",)
    run, _ = submit(server)
    api_of(server).cancel(run.kfp_run_id)
    states: list[str] = []
    error = runs.error_of(follow(server, run, states))
    assert states == ["CANCELING", "CANCELED"]
    assert isinstance(error, InterruptedRunError)
    assert error.exit_code == 130


def test_follow_outlives_a_short_outage(server: FakePipelines) -> None:
    run, _ = submit(server)
    server.refusals["GET"] = [500]
    assert follow(server, run).state == "SUCCEEDED"


def test_follow_gives_up_on_a_long_outage(server: FakePipelines) -> None:
    run, _ = submit(server)
    server.refusals["GET"] = [404] * 1000
    with pytest.raises(ServiceError):
        follow(server, run)


def test_follow_stops_waiting_in_time(server: FakePipelines) -> None:
    server.states = ("RUNNING",)
    run, _ = submit(server)
    patience = Patience(poll_seconds=0.001, timeout_seconds=0.01)
    with pytest.raises(ServiceError, match="is still RUNNING"):
        runs.follow(
            api_of(server),
            run,
            deployment=deployment(server),
            on_state=lambda run: None,
            patience=patience,
        )


def test_resume_starts_a_failed_run_again_with_its_own_arguments(server: FakePipelines) -> None:
    server.states = ("FAILED",)
    first, _ = submit(server)
    again = runs.resume(api_of(server), deployment(server), RUN_ID)
    assert again.kfp_run_id != first.kfp_run_id
    one, two = server.kept["runs"].values()
    assert one["runtime_config"] == two["runtime_config"]
    assert api_of(server).find_run(RUN_ID).run_id == again.kfp_run_id


@pytest.mark.parametrize("pipeline", [one for one in PIPELINES if one != "sweep"])
def test_run_of_every_pipeline_is_known_by_its_name_and_resumes(
    server: FakePipelines, pipeline: str
) -> None:
    """kfp compiles `batch_inference` as `batch-inference`."""
    server.states = ("FAILED",)
    first, _ = submit(server, pipeline=pipeline)
    assert first.pipeline == pipeline
    assert steps_of(first.pipeline)
    assert runs.resume(api_of(server), deployment(server), RUN_ID).pipeline == pipeline


@pytest.mark.parametrize("state", ["RUNNING", "SUCCEEDED"])
def test_resume_refuses_a_run_that_did_not_end_badly(server: FakePipelines, state: str) -> None:
    server.states = (state,)
    submit(server)
    with pytest.raises(ConfigError, match=f"is {state}"):
        runs.resume(api_of(server), deployment(server), RUN_ID)


def test_unknown_run_is_told(server: FakePipelines) -> None:
    with pytest.raises(NotFoundError, match="has no run 20200101"):
        runs.found(api_of(server), "20200101-000000-0000")


def test_local_pictures_are_refused(server: FakePipelines) -> None:
    config = RunConfig.model_validate({"subject": {"images": "examples/subjects/teddy-bear"}})
    with pytest.raises(ConfigError, match="no pod can read"):
        runs.submit(
            api_of(server), deployment(server), config, run_id=RUN_ID, pipeline="dreambooth"
        )
    assert server.requests == []


def test_token_goes_with_every_request(server: FakePipelines, tmp_path: Any) -> None:
    server.token = "first"
    file = tmp_path / "token"
    file.write_text("first\n")
    api = api_of(server, kfp_token_file=file)
    assert api.find_run(RUN_ID) is None
    server.token = "renewed"
    file.write_text("renewed\n")
    assert api.find_run(RUN_ID) is None


def test_missing_and_wrong_tokens_are_told(server: FakePipelines) -> None:
    server.token = "right"
    with pytest.raises(ConfigError, match="asks for a token"):
        PipelinesApi(deployment(server, auth="token").kfp, settings=Settings())
    with pytest.raises(ServiceError, match="answers 401"):
        api_of(server, kfp_token="wrong").find_run(RUN_ID)


def test_silent_api_is_told(server: FakePipelines) -> None:
    kfp = deployment(server).kfp.model_copy(update={"host": "http://127.0.0.1:9"})
    with pytest.raises(ServiceError, match="does not answer"):
        PipelinesApi(kfp, settings=Settings()).find_run(RUN_ID)


def test_schedule_registers_once_and_makes_nothing_up(server: FakePipelines) -> None:
    nightly = Schedule(name="nightly", cron="0 0 2 * * *")
    for _ in range(2):
        runs.register(api_of(server), deployment(server), CONFIG, schedule=nightly)
    (sent,) = server.kept["recurringruns"].values()
    assert sent["no_catchup"] is True
    assert sent["trigger"]["cron_schedule"]["cron"] == "0 0 2 * * *"
    assert sent["mode"] == "ENABLE"
    assert runs.unregister(api_of(server), "nightly").removed == 1
    assert server.kept["recurringruns"] == {}


def schedule(
    server: FakePipelines, *, pipeline: str = "retrain", config: RunConfig = CONFIG
) -> str:
    nightly = Schedule(name="Nightly teddy", cron="0 0 2 * * *", pipeline=pipeline)
    return runs.register(api_of(server), deployment(server), config, schedule=nightly)


def test_each_run_of_a_recurring_run_has_a_run_id_of_its_own(server: FakePipelines) -> None:
    recurring = schedule(server)
    first, second = (server.fire(recurring) for _ in range(2))
    for kfp_run_id in (first, second):
        given = server.kept["runs"][kfp_run_id]["runtime_config"]["parameters"]
        assert "[[" not in json.dumps(given)  # macros are not filled in
        ours = f"nightly-teddy-{kfp_run_id}"
        assert resolved_run_id(given["run_id"], job_id=kfp_run_id) == ours
        found = runs.described(runs.found(api_of(server), ours), deployment(server))
        assert (found.run_id, found.kfp_run_id) == (ours, kfp_run_id)


def test_trials_of_a_recurring_sweep_belong_to_its_run(server: FakePipelines) -> None:
    value = CONFIG.model_dump(mode="json")
    value["sweep"]["trials"] = [{"training.learning_rate": 1e-5}, {"training.learning_rate": 2e-5}]
    recurring = schedule(server, pipeline="sweep", config=RunConfig.model_validate(value))
    job = server.fire(recurring)
    given = server.kept["runs"][job]["runtime_config"]["parameters"]
    trials = [resolved_run_id(trial["run_id"], job_id=job) for trial in given["trials"]]
    assert [trial_of(trial) for trial in trials] == [
        (f"nightly-teddy-{job}", 0),
        (f"nightly-teddy-{job}", 1),
    ]


def test_unregistering_and_replacing_a_schedule_kill_no_run(server: FakePipelines) -> None:
    server.states = ("RUNNING", "SUCCEEDED")
    first = schedule(server)
    running = server.fire(first)
    second = schedule(server)
    assert server.killed == set()
    assert server.kept["recurringruns"][first]["mode"] == "DISABLE"
    removal = runs.unregister(api_of(server), "Nightly teddy")
    assert (removal.removed, removal.disabled) == (1, 1)
    assert removal.unfinished == (f"nightly-teddy-{running}",)
    assert set(server.kept["recurringruns"]) == {first}
    assert second not in server.kept["recurringruns"]
    server.looks[running] = 1
    assert runs.unregister(api_of(server), "Nightly teddy").removed == 1
    assert server.kept["recurringruns"] == {}
    assert server.killed == set()


def test_unfinished_runs_are_found_on_every_page(server: FakePipelines) -> None:
    server.states, server.page_size = ("RUNNING",), 2
    recurring = schedule(server)
    for _ in range(5):
        server.fire(recurring)
    assert len(api_of(server).unfinished(recurring)) == 5


def test_schedule_refuses_five_fields(server: FakePipelines) -> None:
    with pytest.raises(ConfigError, match="has 5 fields"):
        runs.register(
            api_of(server),
            deployment(server),
            CONFIG,
            schedule=Schedule(name="nightly", cron="0 2 * * *"),
        )


@pytest.mark.parametrize("name", [*PATHS, *MODELS])
def test_whatever_a_configuration_names_on_this_machine_is_refused_for_pods(name: str) -> None:
    section, setting = name.split(".")
    values: dict[str, dict[str, str]] = {"subject": {"images": "s3://b/p/"}}
    check_reachable(RunConfig.model_validate(values))
    values.setdefault(section, {})[setting] = "/here/it"
    if name == "evaluation.prompts_file":
        values["evaluation"]["prompt_set"] = "file"
    with pytest.raises(ConfigError, match=rf"^{name} is .*'/here/it', which no pod can read") as e:
        check_reachable(RunConfig.model_validate(values))
    assert ("boothline base add /here/it" if name in MODELS else "s3://") in e.value.remedy
