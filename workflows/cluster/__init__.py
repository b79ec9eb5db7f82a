"""Runs on `dask.distributed`: several processes of this machine, or a cluster's workers."""

from slideloom.workflows.cluster.opening import open_executor

__all__ = ["open_executor"]
