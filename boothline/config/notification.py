"""`notification`: when a run tells a webhook how it ended."""

from typing import Literal

from pydantic import Field

from boothline.config.section import Section

NotifiedStatus = Literal["done", "refused", "failed", "interrupted"]


class NotificationConfig(Section):
    """When a run tells a webhook how it ended; the URL is BOOTHLINE_NOTIFY_WEBHOOK_URL."""

    statuses: tuple[NotifiedStatus, ...] = Field(
        default=("done", "refused", "failed", "interrupted"),
        description="Final statuses that are told: done, refused (by the gate), failed and "
        "interrupted. A webhook that does not answer never fails a run.",
    )
    log_lines: int = Field(
        default=15, ge=0, le=100, description="Last log lines of a failed step in the message."
    )
