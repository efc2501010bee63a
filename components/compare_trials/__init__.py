"""Step compare_trials: ranks the trials of a sweep and names the best."""
