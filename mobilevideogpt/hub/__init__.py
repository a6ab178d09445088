"""Download checkpoints and clips from the Hugging Face hub."""
