"""How different are the rollouts: distinct answers, Hill numbers, text and embedding diversity."""
