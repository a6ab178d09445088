"""Clips, labels and splits: what is trained on, as plain records. Standard library only."""
