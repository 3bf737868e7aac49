"""From tiles to one answer: pooled stopping, seams, islands across tiles, the certificate."""
