"""Training over several nodes as a TrainJob of Kubeflow Trainer."""
