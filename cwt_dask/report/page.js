"use strict";
// The page in the browser. Rows, columns and x, y are pixels of the map, from 0 on.
(() => {
  const data = JSON.parse(document.getElementById("data").textContent);
  const [ny, nx] = data.shape;
  const MOST_MARKED = 200;
  const LEAST_FRAME = 150, LARGEST_FRAME = 560;
  const element = (id) => document.getElementById(id);
  const names = Object.keys(data.maps);
  const raster = (name) => data.maps[name];
  const column = (name) => data.columns.find((one) => one.name === name);
  const maps = names.map((name) => `map-${name}`);
  let model = () => null, chosen = null;

  // --- where on the sky ---------------------------------------------------------------------------------------------

  const sky = data.sky;
  const between = (axis, value) => {
    const step = axis[1] - axis[0];
    const i = Math.min(Math.max(Math.floor((value - axis[0]) / step), 0), axis.length - 2);
    return [i, (value - axis[i]) / step];
  };

  // Longitude and latitude in degrees; null off the sky and beyond the map, undefined near the edge of the sky.
  function position(x, y) {
    if (x < -0.5 || y < -0.5 || x > nx - 0.5 || y > ny - 0.5) return null;
    const [i, u] = between(sky.x, x), [j, v] = between(sky.y, y);
    const total = [0, 0, 0];
    let off = 0;
    for (const [row, col, weight] of [[j, i, (1 - u) * (1 - v)], [j, i + 1, u * (1 - v)], [j + 1, i, (1 - u) * v], [j + 1, i + 1, u * v]]) {
      const at = 3 * (row * sky.x.length + col), vector = sky.directions.slice(at, at + 3);
      if (vector.every((part) => part === 0)) off += 1;
      vector.forEach((part, k) => { total[k] += weight * part; });
    }
    if (off) return off === 4 ? null : undefined;
    const lon = (Math.atan2(total[1], total[0]) * 180 / Math.PI + 360) % 360;
    return [lon, Math.atan2(total[2], Math.hypot(total[0], total[1])) * 180 / Math.PI];
  }

  function positionText(x, y) {
    const found = position(x, y);
    if (!found) return found === null ? "off the sky" : "near the edge of the sky";
    const digits = Math.min(sky.digits, 6);
    return `${sky.names[0]} ${found[0].toFixed(digits)}°, ${sky.names[1]} ${found[1].toFixed(digits).replace("-", "−")}°`;
  }

  // --- texts under the pointer ------------------------------------------------------------------------------------------

  const short = (value) => Number(value.toPrecision(3)).toString().replace("-", "−");

  window.cwtDask = {
    describe(name, byte, at) {
      const { title, unit, values, scales } = raster(name);
      const pixel = data.facets ? "" : `; pixel ${Math.round(at.x)}, ${Math.round(at.y)}`;
      const where = positionText(at.x, at.y) + pixel;
      if (byte === 0) return `masked: ${where}`;
      if (scales.length) {
        const found = scales.filter((_, i) => byte >> (i + 1) & 1);
        return `${found.length ? `scale ${found.join(", ")}` : "no scale"}: ${where}`;
      }
      return `${title} about ${short(values[byte])} ${unit === "T/E" ? "" : unit}: ${where}`;
    },
    source: (i) => sourceText(i),
  };

  function sourceText(i) {
    const shown = ["name", "score", "excess", "flags"].map(column).filter(Boolean);
    const parts = shown.filter((one) => one.values[i] !== "" && one.values[i] !== null)
      .map((one) => one.name === "name" ? one.values[i] : `${one.title} ${one.values[i]}`);
    return parts.join(", ");
  }

  // From the catalogue where that has the map's frame: exact on any projection.
  function sourcePosition(i) {
    const place = ({ l: ["glon", "glat"], RA: ["ra", "dec"] }[sky.names[0]] || []).map(column);
    if (place.length < 2 || !place.every(Boolean)) return positionText(data.x[i], data.y[i]);
    return place.map((one, k) => `${sky.names[k]} ${String(one.values[i]).replace("-", "−")}°`).join(", ");
  }

  // --- the part of the map in view --------------------------------------------------------------------------------------

  const range = (name) => model(name);
  const frame = (name) => [model(name)?.inner_width || 400, model(name)?.inner_height || 250];

  function set(prefix, x0, x1, y0, y1) {
    const [xs, ys] = prefix === "close" ? ["close-x", "close-y"] : [`${prefix}x-range`, `${prefix}y-range`];
    range(xs).setv({ start: x0, end: x1, reset_start: x0, reset_end: x1 }, { check_eq: false });
    range(ys).setv({ start: y0, end: y1, reset_start: y0, reset_end: y1 }, { check_eq: false });
  }

  const inView = () => {
    const x = range("x-range"), y = range("y-range");
    return [Math.min(x.start, x.end), Math.max(x.start, x.end), Math.min(y.start, y.end), Math.max(y.start, y.end)];
  };

  // Square pixels, unless the map is so long that little would be seen of it.
  function wholeMap([width, height]) {
    const scale = Math.max(nx / width, ny / height);
    let high = height * scale;
    const wide = width * scale, taller = high > 2 * ny ? high / ny : 1;
    if (taller > 1) high = ny;
    return { box: [nx / 2 - 0.5 - wide / 2, nx / 2 - 0.5 + wide / 2, ny / 2 - 0.5 - high / 2, ny / 2 - 0.5 + high / 2], taller };
  }

  let whole = [];
  // Whether the maps were not moved since the whole was shown.
  const isWhole = () => inView().every((edge, i) => Math.abs(edge - whole[i]) < 1e-6 * (nx + ny));

  function showWhole() {
    const { box, taller } = wholeMap(frame(maps[0]));
    whole = box;
    set("", ...box);
    const note = element("stretched");
    note.hidden = taller < 1.05;
    note.textContent = `The map is long: pixels are drawn ${taller.toPrecision(2)} times as tall as wide until you zoom in.`;
  }

  function showAround(prefix, x, y, half, name) {
    const [width, height] = frame(name);
    const scale = 2 * half / Math.min(width, height);
    set(prefix, x - scale * width / 2, x + scale * width / 2, y - scale * height / 2, y + scale * height / 2);
  }

  // Pixels to either side of a source that show what is around it.
  const around = () => Math.max(20 * data.scale, 12 * data.factors[0]);

  const moves = {
    whole: showWhole,
    in: () => zoom(0.5),
    out: () => zoom(2),
    left: () => shift(-0.25, 0),
    right: () => shift(0.25, 0),
    up: () => shift(0, 0.25),
    down: () => shift(0, -0.25),
  };

  function zoom(factor) {
    const [x0, x1, y0, y1] = inView(), [x, y] = [(x0 + x1) / 2, (y0 + y1) / 2];
    const [width, height] = frame(maps[0]);
    // Once zoomed, pixels are square.
    const scale = factor * Math.min((x1 - x0) / width, (y1 - y0) / height);
    if (factor > 1 && (scale * width > nx || scale * height > 3 * ny)) return showWhole();
    set("", x - scale * width / 2, x + scale * width / 2, y - scale * height / 2, y + scale * height / 2);
  }

  function shift(dx, dy) {
    const [x0, x1, y0, y1] = inView();
    set("", x0 + dx * (x1 - x0), x1 + dx * (x1 - x0), y0 + dy * (y1 - y0), y1 + dy * (y1 - y0));
  }

  // --- lines of coordinates ---------------------------------------------------------------------------------------------

  // Where a line meets a row (or column) `edge` of pixels, between two others.
  function meets([, xs, ys], along, edge, low, high) {
    const [a, b] = along === "x" ? [xs, ys] : [ys, xs];
    for (let i = 1; i < a.length; i++) {
      if (b[i] !== b[i - 1] && (b[i] - edge) * (b[i - 1] - edge) <= 0) {
        const at = a[i - 1] + (a[i] - a[i - 1]) * (edge - b[i - 1]) / (b[i] - b[i - 1]);
        if (at >= low && at <= high) return at;
      }
    }
    return null;
  }

  // The finest spacing of which not too many lines cross the view, and where they meet its edge.
  function labels(levels, along, [low, high], edges, most) {
    let best = null;
    for (const lines of levels) {
      let ticks = [], where = "";
      for (const [edge, label] of edges) {
        ticks = lines.map((line) => [meets(line, along, edge, low, high), line[0]]).filter(([at]) => at !== null);
        ticks.sort((one, other) => one[0] - other[0]);
        where = label;
        // Near a pole they converge.
        if (ticks.length > 1 && ticks[ticks.length - 1][0] - ticks[0][0] > 0.3 * (high - low)) break;
      }
      if (best && ticks.length > most) break;
      best = { lines, ticks, where };
    }
    if (!best) return { lines: [], ticks: [], where: "" };
    const every = Math.ceil(best.ticks.length / most);
    return { ...best, ticks: best.ticks.filter((_, i) => i % every === 0) };
  }

  function drawLines() {
    const [x0, x1, y0, y1] = inView();
    const left = Math.max(x0, -0.5), right = Math.min(x1, nx - 0.5), low = Math.max(y0, -0.5), high = Math.min(y1, ny - 0.5);
    const [width, height] = frame(maps[0]);
    const middle = [(left + right) / 2, (low + high) / 2];
    // Where a map of the whole sky does not reach the frame, its lines are named where they cross the middle.
    const lon = labels(sky.meridians, "x", [left, right], [[low + 0.004 * (high - low), ""], [middle[1], ", along the middle"]], Math.max(width / 75, 3));
    const lat = labels(sky.parallels, "y", [low, high], [[left + 0.004 * (right - left), ""], [middle[0], ", along the middle"]], Math.max(height / 32, 3));
    const lines = element("graticule").checked ? [...lon.lines, ...lat.lines] : [];
    const outlines = data.facets && element("outlines").checked ? data.facets : { xs: [], ys: [] };
    model("lines").data = { xs: [...lines.map((line) => line[1]), ...outlines.xs], ys: [...lines.map((line) => line[2]), ...outlines.ys] };
    for (const name of maps) {
      const chart = model(name);
      for (const [axis, { ticks, where }, title] of [[chart.below[0], lon, sky.titles[0]], [chart.left[0], lat, sky.titles[1]]]) {
        axis.setv({ major_label_overrides: new Map(ticks), axis_label: title + where });
        axis.ticker.ticks = ticks.map(([at]) => at);
      }
    }
    const found = position((x0 + x1) / 2, (y0 + y1) / 2);
    element("view").textContent = found ? `centre: ${positionText((x0 + x1) / 2, (y0 + y1) / 2)}` : "";
  }

  // --- levels of the pyramid, marks -------------------------------------------------------------------------------------

  function chooseLevels(name, shown, [x, y]) {
    const [width, height] = frame(name);
    const perPixel = Math.min((x[1] - x[0]) / width, (y[1] - y[0]) / height) / (window.devicePixelRatio || 1);
    // The coarsest that is not coarser than the screen.
    const fit = data.factors.filter((factor) => factor <= 1.3 * perPixel).pop() || data.factors[0];
    for (const one of names) {
      for (const factor of data.factors) {
        const image = model(`${name}/${one}/${factor}`);
        if (image) {
          const visible = shown(one) && factor === fit;
          if (image.visible !== visible) image.visible = visible;
        }
      }
    }
  }

  function mark() {
    const filter = model("marked");
    if (!element("mark").checked) { filter.indices = chosen === null ? [] : [chosen]; return; }
    const [x0, x1, y0, y1] = inView();
    const found = [];
    for (const i of matching) {
      if (data.x[i] >= x0 && data.x[i] <= x1 && data.y[i] >= y0 && data.y[i] <= y1) found.push(i);
    }
    // They are in the order of the catalogue, which is that of strength.
    found.sort((one, other) => one - other);
    const kept = found.slice(0, MOST_MARKED);
    if (chosen !== null && !kept.includes(chosen)) kept.push(chosen);
    filter.indices = kept;
  }

  let asked = false;
  function redraw() {
    if (asked) return;
    asked = true;
    requestAnimationFrame(() => {
      asked = false;
      const [x0, x1, y0, y1] = inView();
      for (const name of maps) chooseLevels(name, () => true, [[x0, x1], [y0, y1]]);
      const x = range("close-x"), y = range("close-y");
      chooseLevels("close-up", (one) => one === element("closer").value, [[x.start, x.end], [y.start, y.end]]);
      drawLines();
      mark();
    });
  }

  // --- the table of sources ---------------------------------------------------------------------------------------------

  const total = data.x.length;
  let matching = [...Array(total).keys()], order = matching.slice(), sorting = { at: null, down: true }, first = 0;

  function filter() {
    const words = element("find").value.toLowerCase().trim(), least = parseFloat(element("least").value);
    const strength = column("score"), texts = data.columns.filter((one) => one.text);
    matching = [...Array(total).keys()].filter((i) =>
      (!words || texts.some((one) => String(one.values[i]).toLowerCase().includes(words)))
      && !(strength && strength.values[i] < least)
      && !(element("unflagged").checked && data.flagged[i]));
    first = 0;
    sort();
    redraw();
  }

  // The filters of the table as text.
  function filters() {
    const words = element("find").value.trim(), least = element("least").value;
    const found = [words && `with “${words}”`, least && `score at least ${least}`, element("unflagged").checked && "without flagged ones"];
    const set = found.filter(Boolean);
    return set.length ? [`filter: ${set.join(", ")}; ${order.length} match`] : [];
  }

  function sort() {
    order = matching.slice();
    if (sorting.at !== null) {
      const { values, text } = data.columns[sorting.at], sign = sorting.down ? -1 : 1;
      const missing = (value) => value === null || value === "";
      const number = (value) => ({ "∞": Infinity, "−∞": -Infinity })[value] ?? value;
      order.sort((i, j) => {
        const [one, other] = [values[i], values[j]];
        // Missing values come last in either direction.
        if (missing(one) || missing(other)) return missing(one) - missing(other) || i - j;
        return sign * (text ? one.localeCompare(other) : number(one) === number(other) ? 0 : number(one) - number(other)) || i - j;
      });
    }
    fill();
  }

  function fill() {
    const body = document.querySelector("#catalogue tbody");
    body.replaceChildren(...order.slice(first, first + data.rows).map((i) => {
      const row = document.createElement("tr");
      row.dataset.source = i;
      row.setAttribute("aria-current", i === chosen);
      for (const one of data.columns) {
        const cell = document.createElement("td");
        if (one.text) cell.className = "text";
        const words = one.values[i] === null ? "" : String(one.values[i]);
        if (one.name === "name") {
          const button = document.createElement("button");
          button.type = "button";
          button.textContent = words;
          cell.append(button);
        } else cell.textContent = words;
        row.append(cell);
      }
      return row;
    }));
    element("count").textContent = order.length === total ? `${total} sources` : `${order.length} of ${total} sources`;
    element("page").textContent = order.length ? `${first + 1} to ${Math.min(first + data.rows, order.length)} of ${order.length}` : "none";
    element("in-print").textContent = [`${Math.min(data.rows, order.length - first)} of ${total} sources`, ...filters()].join("; ");
    element("before").disabled = first === 0;
    element("after").disabled = first + data.rows >= order.length;
  }

  function choose(i, { moves: goes = true } = {}) {
    chosen = i;
    for (const row of document.querySelectorAll("#catalogue tbody tr")) {
      row.setAttribute("aria-current", Number(row.dataset.source) === i);
    }
    if (i === null) return;
    element("chosen").textContent = `${sourceText(i)}; ${sourcePosition(i)}`;
    const selected = model("sources").selected;
    if (selected.indices[0] !== i || selected.indices.length !== 1) selected.indices = [i];
    if (goes) showAround("", data.x[i], data.y[i], around(), maps[0]);
    showAround("close", data.x[i], data.y[i], around(), "close-up");
    redraw();
  }

  function listen() {
    element("filter").addEventListener("input", filter);
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

  // --- other controls -----------------------------------------------------------------------------------------------------

  function listenToMaps() {
    for (const button of document.querySelectorAll("[data-move]")) {
      button.addEventListener("click", () => moves[button.dataset.move]());
    }
    element("mark").addEventListener("change", redraw);
    element("graticule").addEventListener("change", redraw);
    element("outlines")?.addEventListener("change", redraw);
    element("closer").addEventListener("change", redraw);
    element("stretch").addEventListener("change", recolour);
    const scale = element("scale");
    const scales = names.flatMap((name) => raster(name).scales.map((size, i) => [`${name} ${i}`, `scale ${size} pixels`]));
    for (const [value, label] of [["any", "all scales"], ...scales]) scale.append(new Option(label, value));
    scale.addEventListener("change", recolour);
    for (const name of ["x-range", "y-range", "close-x", "close-y"]) range(name).change.connect(redraw);
    model("sources").selected.properties.indices.change.connect(() => {
      const [i] = model("sources").selected.indices;
      if (i !== undefined && i !== chosen) {
        first = Math.max(Math.floor(order.indexOf(i) / data.rows), 0) * data.rows;
        fill();
        choose(i, { moves: false });
      }
    });
    const colour = element("tile-colour");
    colour.addEventListener("change", () => {
      const facts = model("tile-facts"), values = facts.data[colour.value];
      const there = [...values].filter((value) => value !== null && Number.isFinite(value));
      const [low, high] = cwtExtremes(there);
      facts.data = { ...facts.data, shown: [...values].map((value) => value === null ? NaN : value) };
      const bottom = there.length ? low : 0;
      model("tile-mapper").setv({ low: bottom, high: high > low ? high : bottom + Math.max(Math.abs(bottom), 1) });
      model("tile-bar").title = colour.selectedOptions[0].textContent;
    });
  }

  function recolour() {
    const [name, scale] = element("scale").value.split(" ");
    for (const one of names) {
      const { palettes, scales } = raster(one);
      const key = scales.length ? (name === "any" ? "any" : one === name ? scale : "any") : element("stretch").value;
      model(`mapper-${one}`).palette = palettes[key];
    }
  }

  // --- sizes ------------------------------------------------------------------------------------------------------------

  // Frames as high as the map is at their width, within reason.
  function fitHeights() {
    const high = (width) => Math.min(Math.max(width * ny / nx, LEAST_FRAME), LARGEST_FRAME);
    const sizes = [...maps, "tiles"].map((name) => [name, high(frame(name)[0])]);
    for (const [name, wanted] of [...sizes, ["close-up", Math.min(frame("close-up")[0], 420)]]) {
      const chart = model(name);
      if (Math.abs(chart.frame_height - wanted) > 2) chart.frame_height = Math.round(wanted);
    }
  }

  // Canvases are not drawn again for the width of paper, but pictures of them are scaled.
  function print(views) {
    for (const view of views) {
      const chart = element(`figure-${view.model.name}`);
      const picture = chart.parentElement.querySelector("img.printed") || chart.parentElement.insertBefore(new Image(), chart);
      picture.className = "printed";
      picture.alt = chart.getAttribute("aria-label");
      picture.src = view.export("png", true).canvas.toDataURL();
    }
  }

  async function start() {
    if (nx > 5 * ny) element("map-grid").classList.add("long");
    fill();
    listen();
    const charts = window.cwtFigures(data), drawn = new Bokeh.Document();
    for (const chart of charts) drawn.add_root(chart);
    const views = await Bokeh.embed.add_document_standalone(drawn, document.body, charts.map((chart) => element(`figure-${chart.name}`)));
    model = (name) => drawn.get_model_by_name(name);
    listenToMaps();
    let wide = "";
    const fit = () => {
      fitHeights();
      const [width, height] = frame(maps[0]);
      const size = [width, height, ...frame("close-up")].join();
      // A zoomed view is kept. Long labels change a frame's size, too.
      if (size !== wide && (!wide || isWhole())) showWhole();
      if (size !== wide && chosen === null && total) showAround("close", data.x[0], data.y[0], around(), "close-up");
      wide = size;
      redraw();
    };
    fit();
    for (const name of [maps[0], "close-up", "tiles"]) {
      for (const key of ["inner_width", "inner_height"]) model(name).properties[key].change.connect(() => requestAnimationFrame(fit));
    }
    // The first page is printed, and all tiles of the table; the reader's own view comes back.
    let left = null;
    const details = element("slowest");
    window.addEventListener("beforeprint", () => {
      left = { first, open: details.open };
      if (first) { first = 0; fill(); }
      details.open = true;
      print(charts.map((chart) => views.get_by_id(chart.id)));
    });
    window.addEventListener("afterprint", () => {
      details.open = left.open;
      if (left.first !== first) { first = left.first; fill(); }
    });
    requestAnimationFrame(() => requestAnimationFrame(() => { document.documentElement.dataset.drawn = charts.length; }));
  }

  start();
})();
