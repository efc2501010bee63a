"""The steps as KFP components: one folder a step, its interface next to its code."""
