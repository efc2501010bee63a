"""Step promote: judges a model and makes it champion if it passes."""
