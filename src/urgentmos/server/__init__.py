"""HTTP and a web page over one Predictor: one model, one queue, the numbers of the command line.

A request walks through `connections` (deadlines), `guard` (hosts, token, log), `uploads` (its files, one temporary file each),
`service` (budgets, a place, a deadline), `worker` (turns and batches), `calculator` (rankings and pages, in processes) and
`answers` (rows, tables). `app` has the addresses. No file outlives its request, names that clients send are labels and never
paths, what is decoded is bounded before it is decoded in full, and nothing is computed for nobody.
"""

from urgentmos.server.app import create_app
from urgentmos.server.limits import Limits
from urgentmos.server.run import serve

__all__ = ["Limits", "create_app", "serve"]
