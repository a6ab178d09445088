"""Clips as files: decoding, frame sampling, pixels, integrity."""
