"""Judges a model by the DreamBooth protocol: pictures, encoders, metrics, intervals."""
