"""How steps are chained into pipelines; what runs a pipeline is in boothline/launch."""
