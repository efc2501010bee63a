"""Step `batch_infer`: makes the pictures that a prompt file asks for."""
