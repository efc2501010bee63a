"""Step evaluate: judges the fine-tuned model against the base model and the champion."""
