"""The same pipeline over a recording, on stream time: what was told, when, and what it cost.

Knows nothing of files, models or databases: `omni_watch.app` hands it a feed, a heartbeat and a way to tell.
"""
