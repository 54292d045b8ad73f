"""From questions to predictions, wherever the model is."""
