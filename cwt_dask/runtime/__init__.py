"""Where tasks run: executors, clusters, signals, progress.

It knows functions and their arguments, and nothing of maps. `distributed` is imported here only.
"""
