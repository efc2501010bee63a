"""Where a pipeline runs: this machine, containers, Kubeflow Pipelines."""
