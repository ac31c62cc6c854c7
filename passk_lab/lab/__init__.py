"""Train small models on a task: base model, sampling, losses, methods. Needs ``[train]``."""
