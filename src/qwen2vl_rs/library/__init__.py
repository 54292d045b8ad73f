"""The library's face: what `import qwen2vl_rs` shows is here."""
