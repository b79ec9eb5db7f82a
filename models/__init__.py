"""Networks: specs, architectures, folders, prediction, training."""
