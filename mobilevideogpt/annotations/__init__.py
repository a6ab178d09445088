"""The annotations: clips, their labels, their splits, and the samples made of them. Standard library only."""
