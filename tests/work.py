"""What a run did: its FFTs, and the bits that its tiles published; and a flipped bit."""

from cwt_dask.storage.ledger import read_records

# Excess, and counts less model and background, forwards; approximation, and T and E of two scales back.
FFTS_OF_A_STEP = 2 + 1 + 2 * 2
# The counts, each time that a tile's window is read.
FFTS_OF_A_START = 1


def digests(run):
    """Of all that each tile published."""
    return {tile: record.chunk_digests for tile, record in read_records(run.files.ledger).items()}


def starts(run):
    """When each tile was done."""
    return {tile: record.started + str(record.seconds) for tile, record in read_records(run.files.ledger).items()}


def flip(path):
    """Flip the bits of the byte in the middle of a file."""
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 0xFF
    path.write_bytes(content)
