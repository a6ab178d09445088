"""Predictions, metrics, the grounding control and the report."""
