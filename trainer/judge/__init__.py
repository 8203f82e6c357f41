"""How good a model is: metrics, validation, comparisons, speed."""
