"""Files of a run: paths on disks and object stores, Zarr, schema of the maps, ledger, lock, checksums.

It knows boxes and the names of maps; it computes nothing.
"""
