"""Download models from ModelScope and Hugging Face."""
