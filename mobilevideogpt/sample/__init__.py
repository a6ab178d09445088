"""The built-in sample: rendered clips and the tiny base checkpoint."""
