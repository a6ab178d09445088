"""The network: encoders, frame selection, projectors and the language model around them."""
