"""Examines this machine and its services, and says what to do about each problem."""

from boothline.doctor.examination import examine, examine_pod, tracking
from boothline.doctor.findings import Finding

__all__ = ["Finding", "examine", "examine_pod", "tracking"]
