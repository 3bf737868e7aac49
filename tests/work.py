"""What a run did: its FFTs, and the bits that its tiles published."""

from cwt_dask.storage.ledger import read_records

# Excess, and counts less model and background, forwards; approximation, and T and E of two scales back.
FFTS_OF_A_STEP = 2 + 1 + 2 * 2
# The counts, each time that a tile's window is read.
FFTS_OF_A_START = 1


def digests(run):
    """Of all that each tile published."""
    return {tile: record.chunk_digests for tile, record in read_records(run.files.ledger).items()}
