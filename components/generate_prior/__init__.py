"""Step `generate_prior`: samples class pictures from the base model."""
