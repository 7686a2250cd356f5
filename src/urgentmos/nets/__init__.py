"""Networks: tensors in, tensors out; nothing here knows about files, clips or metrics by name."""
