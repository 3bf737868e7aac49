"use strict";
// The table of sources, and what is said of the chosen one. The page gives its elements, figures and positions.
window.cwtSources = ({ data, element, model, positionText, separation, redraw, show }) => {
  const total = data.x.length, column = (name) => data.columns.find((one) => one.name === name);
  const everyone = [...Array(total).keys()];
  let matching = everyone, order = everyone.slice(), sorting = { at: null, down: true }, first = 0, left = null, chosen = null;

  const number = (value) => ({ "∞": Infinity, "−∞": -Infinity })[value] ?? value;
  const missing = (value) => value === null || value === undefined || value === "";
  // As it is read: digits that are all zeros say nothing.
  const words = (value) => missing(value) ? "" : typeof value === "number" && value && Math.abs(value) < 1e-3 ? value.toExponential(1) : String(value);
  const value = (name, i) => column(name)?.values[i] ?? null;

  function text(i) {
    const shown = ["name", "score", "excess", "flags"].map(column).filter(Boolean);
    return shown.filter((one) => !missing(one.values[i])).map((one) => one.name === "name" ? one.values[i] : `${one.title} ${one.values[i]}`).join(", ");
  }

  // From the catalogue where that has the map's frame: exact on any projection.
  function place(i) {
    const names = { l: ["glon", "glat"], RA: ["ra", "dec"] }[data.sky.names[0]] || [];
    const found = names.map(column);
    if (found.length < 2 || !found.every(Boolean)) return positionText(data.x[i], data.y[i]);
    return found.map((one, k) => `${data.sky.names[k]} ${String(one.values[i]).replace("-", "−")}°`).join(", ");
  }

  // --- filters and order ------------------------------------------------------------------------------------------------

  // Each filter that is set: its words, and whether it holds for a source.
  function filters() {
    const sought = element("find").value.trim(), least = parseFloat(element("least").value), most = parseFloat(element("most-false").value);
    const texts = data.columns.filter((one) => one.text), extent = element("extent").value, flags = element("flagged").value;
    return [
      sought && [`with “${sought}”`, (i) => texts.some((one) => String(one.values[i]).toLowerCase().includes(sought.toLowerCase()))],
      !Number.isNaN(least) && [`score at least ${least}`, (i) => !(number(value("score", i)) < least)],
      !Number.isNaN(most) && [`expected false at most ${most}`, (i) => !(number(value("expected_false", i)) > most)],
      extent && [extent === "extended" ? "extended" : "points", (i) => (value("extension", i) > 0) === (extent === "extended")],
      flags && [flags === "without" ? "without flags that ask for a look" : "with flags that ask for a look", (i) => Boolean(data.flagged[i]) === (flags === "with")],
    ].filter(Boolean);
  }

  function filter() {
    const set = filters();
    matching = everyone.filter((i) => set.every(([, holds]) => holds(i)));
    first = 0;
    sort();
    redraw();
  }

  function sort() {
    order = matching.slice();
    if (sorting.at !== null) {
      const { values, text: isText } = data.columns[sorting.at], sign = sorting.down ? -1 : 1;
      order.sort((i, j) => {
        const [one, other] = [values[i], values[j]];
        // Missing values come last in either direction.
        if (missing(one) || missing(other)) return missing(one) - missing(other) || i - j;
        return sign * (isText ? one.localeCompare(other) : number(one) === number(other) ? 0 : number(one) - number(other)) || i - j;
      });
    }
    fill();
  }

  // --- the table --------------------------------------------------------------------------------------------------------

  function fill() {
    const body = document.querySelector("#catalogue tbody");
    body.replaceChildren(...order.slice(first, first + data.rows).map((i) => {
      const row = document.createElement("tr");
      row.dataset.source = i;
      row.setAttribute("aria-current", i === chosen);
      for (const one of data.columns) {
        const cell = document.createElement(one.name === "name" ? "th" : "td");
        cell.hidden = !one.shown;
        if (one.text) cell.className = "text";
        if (one.name === "name") {
          cell.scope = "row";
          const button = document.createElement("button");
          button.type = "button";
          button.textContent = words(one.values[i]);
          cell.append(button);
        } else cell.textContent = words(one.values[i]);
        row.append(cell);
      }
      return row;
    }));
    const set = filters().map(([said]) => said);
    element("count").textContent = order.length === total ? `${total} sources` : `${order.length} of ${total} sources`;
    element("page").textContent = order.length ? `${first + 1} to ${Math.min(first + data.rows, order.length)} of ${order.length}` : "none";
    element("in-print").textContent = [`${Math.min(data.rows, order.length - first)} of ${total} sources`,
      ...(set.length ? [`filter: ${set.join(", ")}; ${order.length} match`] : [])].join("; ");
    element("before").disabled = first === 0;
    element("after").disabled = first + data.rows >= order.length;
  }

  function choose(i, { moves = true } = {}) {
    chosen = i;
    for (const row of document.querySelectorAll("#catalogue tbody tr")) row.setAttribute("aria-current", Number(row.dataset.source) === i);
    describe(i);
    const { selected } = model("sources");
    if (selected.indices[0] !== i || selected.indices.length !== 1) selected.indices = [i];
    show(i, moves);
    redraw();
  }

  function chooseOnMap(i) {
    if (i === chosen) return;
    first = Math.max(Math.floor(order.indexOf(i) / data.rows), 0) * data.rows;
    fill();
    choose(i, { moves: false });
  }

  // --- the chosen source ------------------------------------------------------------------------------------------------

  const degrees = (value) => `${Number(value.toPrecision(3))}°`;

  function describe(i) {
    element("chosen").textContent = `${text(i)}; ${place(i)}`;
    element("source-name").textContent = value("name", i);
    const [ra, dec] = ["ra", "dec"].map((name) => value(name, i));
    element("facts").replaceChildren(...data.columns.filter((one) => one.name !== "name" && !missing(one.values[i])).map((one) => {
      const fact = document.createElement("div");
      fact.append(item("dt", `${one.title.length > 1 ? one.title : one.name}${one.unit ? ` (${one.unit})` : ""}`, one.description), item("dd", words(one.values[i])));
      return fact;
    }));
    const near = everyone.filter((j) => j !== i && value("ra", j) !== null)
      .map((j) => [separation([ra, dec], [value("ra", j), value("dec", j)]), j]).sort(([one], [other]) => one - other).slice(0, 5);
    element("neighbours").replaceChildren(...near.map(([far, j]) => {
      const row = document.createElement("li"), button = document.createElement("button");
      button.type = "button";
      button.textContent = value("name", j);
      button.addEventListener("click", () => choose(j));
      row.append(button, ` ${degrees(far)}, score ${value("score", j) ?? "unknown"}`);
      return row;
    }));
    const [match, far] = [value("assoc_name", i), value("assoc_sep", i)];
    element("counterpart").textContent = column("assoc_name") ? (match ? `${match}${far === null ? "" : `, ${degrees(far)} away`}` : "none within the radius of the match")
      : "not looked for: cwt-dask match compares the catalogue with another one";
    link(ra, dec, 2 * Math.max(value("pos_err", i) ?? 0, value("extension", i) ?? 0, data.psf));
    drawProfile(i);
    if (data.profiles.extensions.length) drawExtent(i);
  }

  function item(kind, text, title = "") {
    const one = document.createElement(kind);
    one.textContent = text;
    if (title) one.title = title;
    return one;
  }

  // The page asks for nothing itself: these are for the reader to follow.
  function link(ra, dec, radius) {
    const minutes = (60 * radius).toPrecision(3), at = `${ra} ${dec < 0 ? "" : "+"}${dec}`;
    const pages = {
      SIMBAD: ["https://simbad.cds.unistra.fr/simbad/sim-coo", { Coord: at, CooFrame: "ICRS", Radius: minutes, "Radius.unit": "arcmin" }],
      NED: ["https://ned.ipac.caltech.edu/conesearch", { search_type: "Near Position Search", in_csys: "Equatorial", in_equinox: "J2000", coordinates: `${ra}d ${dec}d`, radius: minutes }],
      // It has no address for a position.
      "TeVCat (all sources)": ["https://tevcat.uchicago.edu/", {}],
    };
    element("links").replaceChildren(...Object.entries(pages).flatMap(([name, [address, query]]) => {
      const anchor = document.createElement("a");
      const asked = new URLSearchParams(query).toString();
      Object.assign(anchor, { href: asked ? `${address}?${asked}` : address, textContent: name, target: "_blank", rel: "noopener noreferrer" });
      return [anchor, " "];
    }), `within ${minutes}′ of RA ${ra}°, Dec ${String(dec).replace("-", "−")}°`);
  }

  // Counts by distance, and what background and source are expected to give there.
  function drawProfile(i) {
    const { counts, background, source, area } = data.profiles, width = data.profiles.rings[i];
    const rings = area[i].map((_, k) => k).filter((k) => area[i][k] > 0);
    const middle = (k) => (k + 0.5) * width, density = (values) => rings.map((k) => values(k) / area[i][k]);
    const observed = density((k) => counts[i][k]), error = density((k) => Math.sqrt(Math.max(counts[i][k], 1)));
    model("profile-counts").data = { x: rings.map(middle), y: observed, low: observed.map((y, k) => Math.max(y - error[k], 0)), high: observed.map((y, k) => y + error[k]) };
    const steps = (values) => ({ x: rings.length ? [...rings.map((k) => k * width), (rings[rings.length - 1] + 1) * width] : [], y: [...values, ...values.slice(-1)] });
    const below = density((k) => background[i][k]), fitted = rings.map((k, n) => below[n] + source[i][k]);
    model("profile-background").data = steps(below);
    model("profile-model").data = steps(fitted);
    const [, most] = cwtExtremes([...observed.map((y, k) => y + error[k]), ...fitted, 0]), chart = model("profile");
    chart.x_range.setv({ start: 0, end: area[i].length * width });
    chart.y_range.setv({ start: 0, end: 1.05 * most || 1 });
  }

  function drawExtent(i) {
    const { psf, ts } = data.profiles, extensions = data.profiles.extensions.map((each) => each * psf[i]);
    const [least, most] = cwtExtremes([...ts[i], 0]), extension = value("extension", i) ?? 0;
    const chart = model("extent"), room = 0.05 * (most - least) || 1, end = Math.max(extensions[extensions.length - 1], extension);
    model("extent-ts").data = { x: extensions, y: ts[i] };
    model("extent-fitted").data = { x: [extension], low: [least - room], high: [most + room] };
    chart.x_range.setv({ start: -0.03 * end, end: 1.03 * end });
    chart.y_range.setv({ start: least - room, end: most + room });
  }

  // --- listeners --------------------------------------------------------------------------------------------------------

  function listen() {
    // Not every browser tells of a choice in a list as of input.
    for (const kind of ["input", "change"]) element("filter").addEventListener(kind, filter);
    document.querySelector("#catalogue thead").addEventListener("click", (event) => {
      const button = event.target.closest("button");
      if (!button) return;
      const at = Number(button.dataset.column);
      const down = sorting.at === at ? !sorting.down : !data.columns[at].text;
      sorting = { at, down };
      for (const head of document.querySelectorAll("#catalogue th")) head.removeAttribute("aria-sort");
      button.closest("th").setAttribute("aria-sort", down ? "descending" : "ascending");
      first = 0;
      sort();
    });
    element("columns").addEventListener("change", (event) => {
      const at = Number(event.target.dataset.column);
      data.columns[at].shown = event.target.checked;
      document.querySelectorAll("#catalogue thead th")[at].hidden = !event.target.checked;
      fill();
    });
    const body = document.querySelector("#catalogue tbody");
    const rowOf = (event) => event.target.closest("tr");
    body.addEventListener("click", (event) => { if (rowOf(event)) choose(Number(rowOf(event).dataset.source)); });
    body.addEventListener("keydown", (event) => {
      const row = rowOf(event);
      if (!row) return;
      const next = { ArrowDown: row.nextElementSibling, ArrowUp: row.previousElementSibling }[event.key];
      if (next) { event.preventDefault(); next.querySelector("button").focus(); }
    });
    element("before").addEventListener("click", () => { first = Math.max(first - data.rows, 0); fill(); });
    element("after").addEventListener("click", () => { first += data.rows; fill(); });
  }

  function toFirstPage() {
    left = first;
    if (first) { first = 0; fill(); }
  }

  function backToPage() {
    if (left !== first) { first = left; fill(); }
  }

  function start() {
    if (total) element("source").hidden = false;
    fill();
    listen();
  }

  return { start, text, describe, chooseOnMap, toFirstPage, backToPage, matching: () => matching, chosen: () => chosen };
};
