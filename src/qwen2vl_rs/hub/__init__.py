"""Models from ModelScope and Hugging Face."""
