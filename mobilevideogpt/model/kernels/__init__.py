"""Fast implementations of the selective scan, the convolution and LoRA; skip them on a first reading."""
