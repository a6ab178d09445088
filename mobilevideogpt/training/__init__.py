"""Stage-3 fine-tuning: settings, trainer, runs that resume, preflight."""
