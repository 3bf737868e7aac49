"""What tiles have made, merged: when the whole map stops, islands and seams, catalogue, certificate.

It knows records and files of tiles, never their arrays as a whole map.
"""
