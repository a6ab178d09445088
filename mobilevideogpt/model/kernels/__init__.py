"""Kernels for the selective scan, the convolution and LoRA; skip them on a first reading."""
