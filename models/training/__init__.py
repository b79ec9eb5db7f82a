"""Train a network on tiles: what is asked of a loss, the loop, and what it leaves."""
