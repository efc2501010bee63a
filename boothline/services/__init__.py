"""The services of a laptop: an S3 object store and an MLflow server, started when needed."""

from boothline.services.endpoints import Endpoints
from boothline.services.local import ALL, ServiceStatus, ensure, running, status, stop, with_local

__all__ = ["ALL", "Endpoints", "ServiceStatus", "ensure", "running", "status", "stop", "with_local"]
