"""The only room that may import torch, transformers and peft."""
