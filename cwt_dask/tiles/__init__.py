"""One tile on a worker: read the window, iterate, publish the core, record it.

It knows the plan's `Job` and the stores; nothing of other tiles but what they have published.
"""
