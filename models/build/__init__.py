"""The tiny base model: a small text-to-image model trained on a picture world of emoji sprites."""
