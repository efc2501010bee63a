"""Models, sampling and randomness: what training, inference and evaluation share."""
