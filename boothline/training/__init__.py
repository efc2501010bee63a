"""The training engine: DreamBooth fine-tuning under DDP, exactly resumable."""
