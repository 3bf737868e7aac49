"""One catalogue of the catalogues of many runs, with a column that names the field of each source."""

import json
import sys
from pathlib import Path

import numpy as np
from astropy.table import QTable, vstack


def main(out: str, *certificates: str) -> None:
    """Stack the catalogues of the runs with these certificates; those that are not exact are named."""
    tables = []
    for certificate in map(Path, certificates):
        run_dir = certificate.parent
        said = json.loads(certificate.read_text(encoding="utf-8"))
        if not said["tiling_exact"]:
            print(f"{run_dir}: its tiles may have done harm, see {certificate}", file=sys.stderr)
        if not said["sources_exact"]:
            print(f"{run_dir}: its tiles do not agree on all sources, see {certificate}", file=sys.stderr)
        table = QTable.read(run_dir / "catalogue.ecsv")
        table.meta.clear()
        # Also where there is no source the column is one of text.
        table.add_column(np.full(len(table), run_dir.name), name="field", index=0)
        tables.append(table)
    vstack(tables).write(out, overwrite=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
