"""An OpenAI-compatible API and a page over HTTP. Imports no torch by itself."""
