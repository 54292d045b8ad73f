"""Fine-tune a base model on question trees."""
