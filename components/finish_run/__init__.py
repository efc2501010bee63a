"""Step finish_run: writes the report of a run and records how the run ended."""
