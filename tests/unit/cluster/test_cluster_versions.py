"""Versions of pipelines in Kubeflow Pipelines: each compiled text is one."""

import pytest
from kfp_deployment import CONFIG, RUN_ID, api_of, deployment, submit
from kfp_fake import FakePipelines

import boothline
from boothline.config import RunConfig
from boothline.launch.cluster import runs
from boothline.launch.cluster.client import PipelinesApi
from boothline.launch.cluster.deployment import Images
from boothline.launch.cluster.runs import Schedule
from boothline.launch.cluster.states import described
from boothline.settings import Settings


@pytest.mark.proves("F54/versions")
def test_same_pipeline_is_one_version_and_another_image_makes_another(
    server: FakePipelines,
) -> None:
    submit(server)
    run, _ = runs.submit(
        api_of(server), deployment(server), CONFIG, run_id="another", pipeline="dreambooth"
    )
    assert run.pipeline == "dreambooth"
    (version,) = server.kept["versions"].values()
    assert version["display_name"].startswith(f"{boothline.__version__}-")
    other = deployment(server).model_copy(
        update={"images": Images(tools="boothline/tools:2", torch="boothline/torch:1")}
    )
    runs.submit(api_of(server), other, CONFIG, run_id="third", pipeline="dreambooth")
    assert len(server.kept["versions"]) == 2
    assert len(server.kept["pipelines"]) == 1


def test_run_that_names_a_version_is_read_with_what_it_runs(server: FakePipelines) -> None:
    config = RunConfig.model_validate(
        {**CONFIG.model_dump(mode="json"), "sweep": {"grid": {"training.num_steps": [10, 20]}}}
    )
    run, _ = runs.submit(
        api_of(server), deployment(server), config, run_id=RUN_ID, pipeline="sweep"
    )
    assert "pipeline_spec" not in server.kept["runs"][run.kfp_run_id]
    read = described(api_of(server).run(run.kfp_run_id), deployment(server))
    assert read.pipeline == "sweep"


def test_submit_inline_sends_the_pipeline_along_and_uploads_nothing(server: FakePipelines) -> None:
    runs.submit(
        api_of(server), deployment(server), CONFIG, run_id=RUN_ID, pipeline="dreambooth",
        inline=True,
    )  # fmt: skip
    (sent,) = server.kept["runs"].values()
    assert sent["pipeline_spec"]["pipeline_spec"]["pipelineInfo"]["name"] == "dreambooth"
    assert not server.kept["versions"]


def test_schedule_of_that_name_in_another_experiment_stays(server: FakePipelines) -> None:
    schedule = Schedule(name="retraining", cron="0 0 2 * * *")
    others = deployment(server, experiment="another-team")
    theirs = PipelinesApi(others.kfp, settings=Settings())
    runs.register(theirs, others, CONFIG, schedule=schedule)
    runs.register(api_of(server), deployment(server), CONFIG, schedule=schedule)
    assert len(theirs.recurring("retraining")) == 1
    assert runs.unregister(api_of(server), "retraining").removed == 1
    assert len(theirs.recurring("retraining")) == 1
