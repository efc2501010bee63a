"""The steps as KFP components: one folder a step, its interface beside its code."""
