"""Clips and texts as tensors: processor, prompts, datasets, cached features."""
