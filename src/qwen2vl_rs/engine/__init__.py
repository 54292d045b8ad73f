"""Forward pass, sequence packing, decoding, candidate ranking, image features, memory."""
