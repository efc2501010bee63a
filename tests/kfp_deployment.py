"""A deployment on the fake Kubeflow Pipelines, and a run submitted there."""

from typing import Any

from kfp_fake import FakePipelines

from boothline.config import RunConfig
from boothline.launch.cluster import runs
from boothline.launch.cluster.client import PipelinesApi
from boothline.launch.cluster.deployment import Deployment
from boothline.launch.cluster.states import ClusterRun
from boothline.settings import Settings

RUN_ID = "20260131-093000-1a2b"
CONFIG = RunConfig.model_validate({"subject": {"images": "s3://boothline/data/teddy/"}})


def deployment(server: FakePipelines, **kfp: Any) -> Deployment:
    return Deployment.model_validate(
        {
            "kfp": {"host": server.url, "namespace": "ml", "service_account": "editor", **kfp},
            "images": {"tools": "boothline/tools:1", "torch": "boothline/torch:1"},
            "settings": {"s3_endpoint": "http://s3:8333"},
        }
    )


def api_of(server: FakePipelines, **settings: Any) -> PipelinesApi:
    return PipelinesApi(deployment(server).kfp, settings=Settings.model_validate(settings))


def submit(server: FakePipelines, *, pipeline: str = "dreambooth") -> tuple[ClusterRun, bool]:
    return runs.submit(api_of(server), deployment(server), CONFIG, run_id=RUN_ID, pipeline=pipeline)
