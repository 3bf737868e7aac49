"use strict";
// The maps of the page in the browser. Rows, columns and x, y are pixels of the map, from 0 on.
(() => {
  const data = JSON.parse(document.getElementById("data").textContent);
  const [ny, nx] = data.shape;
  const MOST_MARKED = 200;
  const LEAST_FRAME = 160;
  const element = (id) => document.getElementById(id);
  const names = Object.keys(data.maps);
  const raster = (name) => data.maps[name];
  const maps = names.filter((name) => !raster(name).in_place_of).map((name) => `map-${name}`);
  const dark = matchMedia("(prefers-color-scheme: dark)");
  const sky = window.cwtSky(data), { position, positionText, separation } = sky;
  let model = () => null;

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
    source: (i) => sources.text(i),
  };

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

  // --- axes, levels of the pyramid, marks -------------------------------------------------------------------------------------

  function label(chart, ticks, titles) {
    for (const [k, axis] of [chart.below[0], chart.left[0]].entries()) {
      axis.setv({ major_label_overrides: new Map(ticks[k]), axis_label: titles[k] });
      axis.ticker.ticks = ticks[k].map(([at]) => at);
    }
  }

  function drawLines() {
    const view = inView(), { lines, ticks, titles } = sky.graticule(view, frame(maps[0]));
    const shown = element("graticule").checked ? lines : [];
    const outlines = data.facets && element("outlines").checked ? data.facets : { xs: [], ys: [] };
    model("lines").data = { xs: [...shown.map((line) => line[1]), ...outlines.xs], ys: [...shown.map((line) => line[2]), ...outlines.ys] };
    for (const name of maps) label(model(name), ticks, titles);
    const middle = [(view[0] + view[1]) / 2, (view[2] + view[3]) / 2];
    element("view").textContent = position(...middle) ? `centre: ${positionText(...middle)}` : "";
  }

  function drawCloseAxes(x, y) {
    label(model("close-up"), [sky.edgeTicks(0, x.start, x.end, y.start), sky.edgeTicks(1, y.start, y.end, x.start)], data.sky.titles);
    const bar = sky.scaleBar([x.start, x.end, y.start, y.end]);
    model("scale-bar").data = bar ? { xs: [[bar.from, bar.to]], ys: [[bar.y, bar.y]], x: [(bar.from + bar.to) / 2], y: [bar.y], text: [bar.text] }
      : { xs: [], ys: [], x: [], y: [], text: [] };
  }

  // Whether a chart of the maps shows a raster: counts as observed, or smoothed.
  const shownIn = (chart, one) => {
    const other = names.find((name) => raster(name).in_place_of === one);
    return chart === `map-${raster(one).in_place_of || one}` && (!other && !raster(one).in_place_of || one === element("kind").value);
  };

  function chooseLevels(name, shown, [x, y]) {
    const [width, height] = frame(name);
    const perPixel = Math.min((x[1] - x[0]) / width, (y[1] - y[0]) / height) / (window.devicePixelRatio || 1);
    // The coarsest that is not coarser than the screen.
    const fit = data.factors.filter((factor) => factor <= 1.3 * perPixel).pop() || data.factors[0];
    for (const one of names) {
      const bar = model(`bar/${name}/${one}`);
      if (bar && bar.visible !== shown(one)) bar.visible = shown(one);
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
    const filter = model("marked"), chosen = sources.chosen();
    if (!element("mark").checked) { filter.indices = chosen === null ? [] : [chosen]; return; }
    const [x0, x1, y0, y1] = inView();
    const found = [];
    for (const i of sources.matching()) {
      if (data.x[i] >= x0 && data.x[i] <= x1 && data.y[i] >= y0 && data.y[i] <= y1) found.push(i);
    }
    // They are in the order of the catalogue, which is that of strength.
    found.sort((one, other) => one - other);
    const kept = found.slice(0, MOST_MARKED);
    if (chosen !== null && !kept.includes(chosen)) kept.push(chosen);
    filter.indices = kept;
    sizeMarks();
  }

  // Circles as large as the point spread function and the extension make the source, but large enough to be seen.
  function sizeMarks() {
    const x = range("x-range"), y = range("y-range"), close = range("close-x"), marks = model("sources");
    const across = (name, axis) => frame(name)[0] / Math.abs(axis.end - axis.start);
    const up = frame(maps[0])[1] / Math.abs(y.end - y.start);
    const scales = [Math.min(across(maps[0], x), up), across("close-up", close)], key = scales.map((scale) => scale.toPrecision(3)).join();
    if (key === sized) return;
    sized = key;
    const sizes = (scale, least) => data.radius.map((radius) => Math.max(2 * radius * scale, least));
    marks.data = { ...marks.data, size: sizes(scales[0], 11), close: sizes(scales[1], 11) };
  }
  let sized = "";

  let asked = false;
  function redraw() {
    if (asked) return;
    asked = true;
    requestAnimationFrame(() => {
      asked = false;
      const [x0, x1, y0, y1] = inView();
      for (const name of maps) chooseLevels(name, (one) => shownIn(name, one), [[x0, x1], [y0, y1]]);
      const x = range("close-x"), y = range("close-y");
      chooseLevels("close-up", (one) => one === element("closer").value, [[x.start, x.end], [y.start, y.end]]);
      drawLines();
      drawCloseAxes(x, y);
      mark();
    });
  }

  const sources = window.cwtSources({ data, element, model: (name) => model(name), positionText, separation, redraw,
    show: (i, goes) => {
      if (goes) showAround("", data.x[i], data.y[i], around(), maps[0]);
      showAround("close", data.x[i], data.y[i], around(), "close-up");
    } });

  // --- other controls -----------------------------------------------------------------------------------------------------

  function listenToMaps() {
    for (const button of document.querySelectorAll("[data-move]")) {
      button.addEventListener("click", () => moves[button.dataset.move]());
    }
    element("mark").addEventListener("change", redraw);
    element("graticule").addEventListener("change", redraw);
    element("outlines")?.addEventListener("change", redraw);
    element("closer").addEventListener("change", redraw);
    element("kind").addEventListener("change", redraw);
    element("across").addEventListener("change", () => { element("map-grid").dataset.across = element("across").value; });
    element("stretch").addEventListener("change", recolour);
    const scale = element("scale");
    const scales = names.flatMap((name) => raster(name).scales.map((size, i) => [`${name} ${i}`, `scale ${size} pixels`]));
    for (const [value, label] of [["any", "all scales"], ...scales]) scale.append(new Option(label, value));
    scale.addEventListener("change", recolour);
    for (const name of ["x-range", "y-range", "close-x", "close-y"]) range(name).change.connect(redraw);
    model("sources").selected.properties.indices.change.connect(() => {
      const [i] = model("sources").selected.indices;
      if (i !== undefined) sources.chooseOnMap(i);
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
      const ticks = raster(one).ticks[key] || [];
      for (const bar of [...maps, "close-up"].map((chart) => model(`bar/${chart}/${one}`)).filter(Boolean)) {
        bar.major_label_overrides = new Map(ticks);
        bar.ticker.ticks = ticks.map(([at]) => at);
      }
    }
  }

  // --- sizes ------------------------------------------------------------------------------------------------------------

  // Frames as high as the map is at their width, within reason.
  function fitHeights() {
    const most = Math.max(0.8 * window.innerHeight, 400), high = (width) => Math.min(Math.max(width * ny / nx, LEAST_FRAME), most);
    const sizes = [...maps, "tiles"].map((name) => [name, high(frame(name)[0])]);
    for (const [name, wanted] of [...sizes, ["close-up", Math.min(frame("close-up")[0], 520)]]) {
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
    if (nx < 1.5 * ny) element("map-grid").classList.add("tall");
    sources.start();
    const charts = window.cwtFigures(data), drawn = new Bokeh.Document();
    for (const chart of charts) drawn.add_root(chart);
    const views = await Bokeh.embed.add_document_standalone(drawn, document.body, charts.map((chart) => element(`figure-${chart.name}`)));
    model = (name) => drawn.get_model_by_name(name);
    cwtPaint(charts, dark.matches);
    dark.addEventListener("change", () => cwtPaint(charts, dark.matches));
    listenToMaps();
    recolour();
    let wide = "";
    const fit = () => {
      fitHeights();
      const [width, height] = frame(maps[0]);
      const size = [width, height, ...frame("close-up")].join();
      // A zoomed view is kept. Long labels change a frame's size, too.
      if (size !== wide && (!wide || isWhole())) showWhole();
      if (size !== wide && data.x.length) showAround("close", data.x[sources.chosen() ?? 0], data.y[sources.chosen() ?? 0], around(), "close-up");
      wide = size;
      redraw();
    };
    fit();
    for (const name of [maps[0], "close-up", "tiles"]) {
      for (const key of ["inner_width", "inner_height"]) model(name).properties[key].change.connect(() => requestAnimationFrame(fit));
    }
    // The first page is printed, and all tiles of the table, on white paper; the reader's own view comes back.
    let open = null;
    const details = element("slowest");
    window.addEventListener("beforeprint", () => {
      open = details.open;
      sources.toFirstPage();
      details.open = true;
      cwtPaint(charts, false);
      print(charts.map((chart) => views.get_by_id(chart.id)));
    });
    window.addEventListener("afterprint", () => {
      details.open = open;
      cwtPaint(charts, dark.matches);
      sources.backToPage();
    });
    if (data.x.length) sources.describe(0);
    requestAnimationFrame(() => requestAnimationFrame(() => { document.documentElement.dataset.drawn = charts.length; }));
  }

  start();
})();
