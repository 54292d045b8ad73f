"""Fine-tuning a base on question trees."""
