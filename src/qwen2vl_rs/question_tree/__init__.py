"""Trees of questions that share an image, and attention over them. Independent of any model."""
