"""Settings of every test: offline, one thread (tiny models gain nothing from more), a cache of the test run's own."""

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("HF_HUB_OFFLINE", "1")
