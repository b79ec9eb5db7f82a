"""Many slides with one model: which, in what order, watched, stopped, and what came of each.

`entries` says which slides, `run` takes each through its stages, two or three at a time, `outcomes`
and `tables` hold how it went.
"""
