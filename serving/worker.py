"""`python -m serving.worker`: one of several processes of a server (serving.workers starts it)."""

from serving.workers import worker_main

worker_main()
