"""What a dataset is; the only layer that imports lance."""
