"""Clips as files: decoding, frame sampling, pixels, the clip check and the re-encoding."""
