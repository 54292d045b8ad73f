"""The server: an OpenAI-compatible API and a web page. Does not import torch itself."""
