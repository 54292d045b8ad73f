"""Map the answers to questions over a large scene, window by window."""
