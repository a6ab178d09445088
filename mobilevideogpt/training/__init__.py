"""Fine-tuning: settings, LoRA, optimiser groups, trainer, checkpoints, memory."""
