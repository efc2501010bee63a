"""Base of every configuration section, and the placeholder that prompts carry."""

from pydantic import BaseModel, ConfigDict

SUBJECT_FIELD = "{subject}"


class Section(BaseModel):
    """Base of all configuration sections: frozen, unknown keys refused."""

    model_config = ConfigDict(frozen=True, extra="forbid")
