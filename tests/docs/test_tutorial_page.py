"""The tutorial is stored as it is written, and says where its map comes from."""

import json
import re
from pathlib import Path

NOTEBOOK = Path(__file__).parents[2] / "docs" / "tutorial.ipynb"
BUILT = NOTEBOOK.parent / "_build" / "jupyter_execute" / "tutorial.ipynb"


def code_cells(path):
    cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    return [cell for cell in cells if cell["cell_type"] == "code"]


def test_it_is_stored_without_outputs():
    for cell in code_cells(NOTEBOOK):
        assert not cell["outputs"]
        assert cell["execution_count"] is None


# The published one's, up to where it is written; then in tiles.
STEPS = """%matplotlib inline ... print("Numpy version: " ... image.cutout(position=image.center, size=size)
data["background"].plot(vmax=10 ... MIN_SCALE = 6.0 ... print(cwt_kernels.info_table) ... SIGNIFICANCE_THRESHOLD = 2.0
cwt = CWT( ... cwt_data = CWTData( ... cwt.analyze(cwt_data) ... images = cwt_data.images() ... history = cwt.history
data_iter = history[N_ITER] ... data_iter.image_info(name="approx_bkg") ... cube_info(name="support", per_scale=True)
cube_info(name="support", per_scale=False) ... difference = history[1] - history[0]
difference.cube_info("support") ... difference.info_table ... images_diff = difference.images() ... cwt_data.write(
run_survey( ... run.certificate ... assert error < 1e-9"""


def test_it_does_what_the_published_one_does_in_its_order():
    source = "\n".join("".join(cell["source"]) for cell in code_cells(NOTEBOOK))
    found = [source.find(step) for step in re.split(r" \.\.\. |\n", STEPS)]
    assert -1 not in found
    assert found == sorted(found)


def test_the_pages_were_built_with_all_of_its_outputs():
    # `make docs` comes before, whose build fails where a cell does.
    outputs = [output for cell in code_cells(BUILT) for output in cell["outputs"]]
    text = "".join("".join(output.get("text", "")) for output in outputs)
    assert "This is the map fermi_survey.fits.gz" in text or "This is a simulated map" in text
    assert "pixels in which the supports differ: 0" in text
    assert sum("image/png" in output.get("data", {}) for output in outputs) == 5
