"""Train small models on a task: base model, sampling, losses, methods. Needs ``[train]``."""

from passk_lab._lazy import lazy

__all__: list[str] = []

__getattr__, __dir__ = lazy(__name__, __all__)
