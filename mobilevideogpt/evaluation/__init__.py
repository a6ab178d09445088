"""Predictions on the test split, metrics, the grounding control and the report."""
