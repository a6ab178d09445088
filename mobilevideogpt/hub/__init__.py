"""The Hugging Face hub: checkpoints and clips are downloaded here."""
