"""What a user runs: one slide, a folder of slides, exports, the command line."""
