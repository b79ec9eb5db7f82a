"""Slides with a known truth, and checks, for tests of slideloom and of what is built on it."""
