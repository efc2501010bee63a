"""Step `publish_checkpoint`: exports the trained model, loads it back and registers it."""
