"""Class masks: blended, and turned into areas."""
