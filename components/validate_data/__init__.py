"""Step validate_data: from a folder of pictures to a checked dataset."""
