"""Real services (written by their owner)."""
