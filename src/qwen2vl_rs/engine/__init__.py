"""From questions to passes through a model: packs, answers, image features, memory."""
