"""Weights of other libraries in torso's names: one file a model, and the model in that library's own setting."""
