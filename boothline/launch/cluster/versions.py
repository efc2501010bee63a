"""Pipelines and their versions in Kubeflow Pipelines: each compiled text is one version.

A version is named by Boothline's version and the sha256 of its text, which holds the images with
their digests and what each pod gets. The same text is therefore never uploaded twice, and a run
that starts a version says exactly what it runs.
"""

import hashlib
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import BaseModel, ConfigDict, Field

import boothline
from boothline.errors import ServiceError
from boothline.launch.cluster.client import TIMEOUT_SECONDS, PipelinesApi, equals

if TYPE_CHECKING:
    from kfp_server_api import V2beta1RecurringRun, V2beta1Run

PREFIX = "boothline-"
_DIGITS = 12


class Uploaded(BaseModel):
    """A version of a pipeline in Kubeflow Pipelines."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    pipeline: str = Field(description="The pipeline's name there.")
    version: str = Field(description="The version's name there.")
    pipeline_id: str
    version_id: str
    is_new: bool = Field(description="Whether it was uploaded now.")


def version_name(text: str) -> str:
    """Return the name of the version that a compiled pipeline is."""
    digest = hashlib.sha256(text.encode()).hexdigest()
    return f"{boothline.__version__}-{digest[:_DIGITS]}"


def text_of(document: Mapping[str, object]) -> str:
    """Return the YAML of a compiled pipeline as the API takes it; see `pipeline_document`."""
    import yaml

    if "platform_spec" in document:
        both = (document["pipeline_spec"], document["platform_spec"])
        return yaml.dump_all(both, Dumper=yaml.CSafeDumper)
    return yaml.dump(dict(document), Dumper=yaml.CSafeDumper)


def upload(api: PipelinesApi, pipeline: str, text: str) -> Uploaded:
    """Upload a compiled pipeline as a version, or find the one that has the same text.

    Args:
        api: Kubeflow Pipelines.
        pipeline: our name of the pipeline.
        text: the compiled pipeline.

    Raises:
        ServiceError: the API is away or refuses.
    """
    name, version = f"{PREFIX}{pipeline}", version_name(text)
    pipeline_id = _pipeline_id(api, name)
    version_id = _version_id(api, pipeline_id, version)
    is_new = version_id is None
    if version_id is None:
        try:
            _send(api, pipeline_id, version, text)
        except ServiceError:
            if _version_id(api, pipeline_id, version) is None:  # nobody else was faster
                raise
        version_id = _version_id(api, pipeline_id, version) or ""
    return Uploaded(
        pipeline=name,
        version=version,
        pipeline_id=pipeline_id,
        version_id=version_id,
        is_new=is_new,
    )


def start_version(
    api: PipelinesApi, body: "V2beta1Run | V2beta1RecurringRun", *, pipeline: str
) -> None:
    """Let a body that carries a compiled pipeline name a version of it instead.

    Raises:
        ServiceError: the API is away or refuses.
    """
    from kfp_server_api import V2beta1PipelineVersionReference

    uploaded = upload(api, pipeline, text_of(body.pipeline_spec))
    body.pipeline_spec = None
    body.pipeline_version_reference = V2beta1PipelineVersionReference(
        pipeline_id=uploaded.pipeline_id, pipeline_version_id=uploaded.version_id
    )


def _pipeline_id(api: PipelinesApi, name: str) -> str:
    """Return the API's id of a pipeline, made if it is missing."""
    from kfp_server_api import PipelineServiceApi, V2beta1Pipeline

    service = PipelineServiceApi(api.client)
    if existing := _found_pipeline(api, name):
        return existing
    body = V2beta1Pipeline(
        display_name=name, name=name, namespace=api.kfp.owner, description="Uploaded by Boothline"
    )
    try:
        with api.translated("make the pipeline"):
            made = service.pipeline_service_create_pipeline(body, _request_timeout=TIMEOUT_SECONDS)
            return str(made.pipeline_id)
    except ServiceError:
        if existing := _found_pipeline(api, name):  # somebody else was faster
            return existing
        raise


def _found_pipeline(api: PipelinesApi, name: str) -> str | None:
    from kfp_server_api import PipelineServiceApi

    with api.translated("read the pipelines"):
        answer = PipelineServiceApi(api.client).pipeline_service_list_pipelines(
            namespace=api.kfp.owner,
            page_size=100,
            filter=equals("name", name),
            _request_timeout=TIMEOUT_SECONDS,
        )
    named = [item for item in answer.pipelines or [] if item.display_name == name]
    return str(named[0].pipeline_id) if named else None


def _version_id(api: PipelinesApi, pipeline_id: str, version: str) -> str | None:
    from kfp_server_api import PipelineServiceApi

    with api.translated("read the pipeline's versions"):
        answer = PipelineServiceApi(api.client).pipeline_service_list_pipeline_versions(
            pipeline_id,
            page_size=100,
            filter=equals("name", version),
            _request_timeout=TIMEOUT_SECONDS,
        )
    named = [item for item in answer.pipeline_versions or [] if item.display_name == version]
    return str(named[0].pipeline_version_id) if named else None


def _send(api: PipelinesApi, pipeline_id: str, version: str, text: str) -> None:
    from kfp_server_api import PipelineUploadServiceApi

    with tempfile.TemporaryDirectory(prefix="boothline-upload-") as folder:
        path = Path(folder) / "pipeline.yaml"
        path.write_text(text, encoding="utf-8")
        with api.translated("upload the pipeline"):
            PipelineUploadServiceApi(api.client).upload_pipeline_version(
                str(path),
                name=version,
                display_name=version,
                pipelineid=pipeline_id,
                description=f"Boothline {boothline.__version__}",
                _request_timeout=TIMEOUT_SECONDS,
            )
