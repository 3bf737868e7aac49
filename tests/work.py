"""What a run did: its FFTs, and the bits that its tiles published; and a flipped bit."""

import tomllib

import tomli_w

from cwt_dask.storage.ledger import read_records
from cwt_dask.storage.sealed import SEAL, sealed, unsealed

# Excess, and counts less model and background, forwards; approximation, and T and E of two scales back.
FFTS_OF_A_STEP = 2 + 1 + 2 * 2
# The counts, each time that a tile's window is read.
FFTS_OF_A_START = 1
# Of the first iteration with two scales besides: third cumulants.
FFTS_OF_THE_FIRST = 2


def digests(run):
    """Of all that each tile published."""
    return {tile: record.chunk_digests for tile, record in read_records(run.files.ledger).items()}


def starts(run):
    """When each tile was done."""
    return {tile: record.started + str(record.seconds) for tile, record in read_records(run.files.ledger).items()}


def change_run(path, old, new):
    """Change something in a `run.toml`, and seal it again."""
    text = path.read_text()
    assert old in text
    content = tomllib.loads(text.replace(old, new))
    path.write_text(tomli_w.dumps({SEAL: sealed(content)[SEAL]} | unsealed(content)))


def flip(path):
    """Flip the bits of the byte in the middle of a file."""
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 0xFF
    path.write_bytes(content)
