"""What a run over tiles promises: to be the whole map's result."""

import numpy as np
import oracle
from skies import rounding_of

# The contract, over the model's maximum. What is measured is far below: see the tests.
TOLERANCE = 1e-9


def whole_of(counts, background, mask=None, **options):
    """What the oracle makes of the whole map."""
    used = np.ones(counts.shape, dtype=bool) if mask is None else mask
    return oracle.analyze(
        counts, background, mask=mask, rounding=rounding_of(counts[used], background[used]), **options
    )


def assert_equals_whole(run, whole):
    """Compare a run with the oracle; return the model's error over its maximum."""
    certificate = run.certificate
    scale = max(whole.model.max(), 1e-30)
    error = np.abs(run.model.compute() - whole.model).max() / scale
    assert error <= TOLERANCE
    np.testing.assert_array_equal(run.support.compute(), whole.support)
    assert certificate["n_iter"] == whole.n_iter
    for name in ("approx", "residual", "significance"):
        expected = getattr(whole, name)
        np.testing.assert_allclose(run.map(name).compute(), expected, rtol=0, atol=TOLERANCE * np.abs(expected).max())
    return error


def assert_promised(run):
    certificate = run.certificate
    assert certificate["tiling_exact"]
    assert certificate["coverage"] == 1.0
    assert certificate["seam_support_flips"] == 0
    assert certificate["seam_model_error"] is None or certificate["seam_model_error"] <= TOLERANCE
    assert run.promises_kept
