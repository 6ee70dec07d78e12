"""How good a model is, in numbers that can be compared. Knows no training loop."""
