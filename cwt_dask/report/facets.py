"""What a certificate says of facets, in words."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

HARMLESS = "The facets did no harm: each is what it would be with a wider margin."


def reasons_of_facets(certificate: Mapping[str, Any]) -> list[str]:
    """Why facets did no harm, by the certificate of a run on the sphere."""
    facets = certificate["facets"]
    reasons = [
        f"all {facets['counts_of_survey']:.10g} counts of the survey are in the cell of exactly one facet",
        (
            f"images reach {certificate['margin_effective']} pixels beyond their cells, and the contract asks for "
            f"{certificate['margin_contract']}"
        ),
        f"all facets stopped at iteration {certificate['n_iter']}, by the residual of all cells together",
    ]
    if borders := facets.get("borders"):
        reasons.append(
            f"sources at borders come once: {borders['settled']} were offered by two facets, and one was kept"
        )
    return [*reasons, "there is no whole plane to compare facets with: verify --recompute K makes some of them again"]


def evidence_of_facets(facets: Mapping[str, Any]) -> Iterator[tuple[str, str, str]]:
    """Quantities, values and what they mean, in place of those of seams."""
    held, there = facets["counts_in_cells"], facets["counts_of_survey"]
    yield "Counts in all cells", f"{held:.10g}", f"the survey has {there:.10g}; must be the same"
    if borders := facets.get("borders"):
        yield "Sources at borders", f"{borders['settled']}", "offered by two facets: one of both was kept"
        yield "Sources beyond their cell", f"{borders['beyond']}", "kept, since no other facet has them"
        ratio = f", counts in the ratio {borders['counts_ratio']:.3g} (median)" if borders["counts_ratio"] else ""
        meaning = f"found by both: {borders['agreed']}{ratio}"
        yield "Sources of S > 6 that two facets see", f"{borders['compared']}", meaning
