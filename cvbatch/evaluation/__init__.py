"""How good predictions are: metrics against truth, and two runs against each other."""
