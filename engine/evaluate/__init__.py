"""How good a model is, measured on pictures and in feature spaces that no training looks through."""
