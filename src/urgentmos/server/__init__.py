"""HTTP and a web page over one Predictor: one model, one queue, the numbers of the command line.

A request walks through `guard` (token, limits, log), `uploads` (its files, one temporary file each), `worker` (the queue and
its batches) and `answers` (rows, tables, pages). `app` has the addresses. No file outlives its request, names that clients
send are labels and never paths, and what is decoded is bounded before it is decoded in full.
"""

from urgentmos.server.app import create_app
from urgentmos.server.limits import Limits
from urgentmos.server.run import serve

__all__ = ["Limits", "create_app", "serve"]
