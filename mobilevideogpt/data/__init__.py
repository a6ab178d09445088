"""What is trained on: manifest, labels, splits, prompts, features, batches."""
