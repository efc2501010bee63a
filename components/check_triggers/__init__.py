"""Step check_triggers: says whether to train again and claims the reason."""
