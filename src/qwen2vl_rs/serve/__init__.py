"""The faces over HTTP: an OpenAI-compatible API and a page. Imports no torch."""
