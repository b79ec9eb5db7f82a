"""Held-out figures of a model, or of one result against another."""
