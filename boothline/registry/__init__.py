"""The registry: model versions, the gate, the ledger of promotions, aliases in MLflow."""
