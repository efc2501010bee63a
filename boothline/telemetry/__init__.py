"""Traces and metrics by OpenTelemetry's standard variables; off, and not loaded, without them."""

from boothline.telemetry.observing import Observed, observing
from boothline.telemetry.spans import report_run

__all__ = ["Observed", "observing", "report_run"]
