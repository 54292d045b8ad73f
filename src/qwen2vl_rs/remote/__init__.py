"""Models behind somebody's OpenAI-compatible server."""
