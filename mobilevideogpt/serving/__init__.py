"""Use of a fine-tuned model: answers about clips, and the export of a checkpoint."""
