"""Step `train`: fine-tunes the base model on the subject's pictures."""
