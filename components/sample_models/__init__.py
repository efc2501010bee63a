"""Step sample_models: samples the pictures that an evaluation compares, in shards."""
