"use strict";
// Smallest and largest of any number of values: Math.min(...values) ends where they outgrow the stack.
window.cwtExtremes = (values) => values.reduce(([low, high], value) => [Math.min(low, value), Math.max(high, value)], [Infinity, -Infinity]);

// The figures, drawn by Bokeh from the page's data. What the page's script changes later has a name.
window.cwtFigures = (data) => {
  const B = Bokeh;
  const { ndarray } = B.require("core/util/ndarray");
  const [ny, nx] = data.shape;
  const BLUE = "#2f7cc4", RED = "#d0342c", GREY = "#5f6b76", OUTSIDE = "#eef0f2";
  // The page sets heights of maps by its own width.
  const HEIGHT = 330;

  // With the look of the page, and as wide as its element.
  function newChart(name, tools, options) {
    const chart = B.Plotting.figure({ name, sizing_mode: "stretch_width", tools: [...tools, new B.SaveTool(), new B.ResetTool()],
      toolbar_location: "above", background_fill_color: OUTSIDE, outline_line_color: "#c3c9cf", ...options });
    chart.toolbar.setv({ logo: null, active_scroll: null });
    for (const grid of chart.center) grid.grid_line_color = null;
    for (const axis of [...chart.below, ...chart.left]) axis.setv({ axis_label_text_font_style: "normal", minor_tick_line_color: null });
    return chart;
  }

  function add(chart, data_source, glyph, options = {}) {
    const renderer = new B.GlyphRenderer({ data_source, glyph, view: new B.CDSView(), ...options });
    chart.add_renderers(renderer);
    return renderer;
  }

  const columns = (values) => new B.ColumnDataSource({ data: values });
  const line = (chart, x, y, look) => add(chart, columns({ x, y }), new B.Line({ x: { field: "x" }, y: { field: "y" }, ...look }));
  const edges = { left: { field: "left" }, right: { field: "right" }, bottom: { field: "bottom" }, top: { field: "top" } };
  const range = (name, n) => new B.Range1d({ start: -0.5, end: n - 0.5, name });

  // --- maps ---------------------------------------------------------------------------------------------------------------

  function skyFigure(name, x_range, y_range) {
    const box = new B.BoxZoomTool({ match_aspect: true });
    // Frames of the same size, with and without a colour bar.
    const size = { frame_height: HEIGHT - 90, min_border_left: 66, min_border_right: 58 };
    const chart = newChart(name, [new B.PanTool(), box, new B.WheelZoomTool(), new B.TapTool()], { x_range, y_range, ...size });
    chart.toolbar.active_drag = box;
    // The page sets ticks where lines of coordinates meet the frame.
    for (const axis of [chart.below[0], chart.left[0]]) axis.ticker = new B.FixedTicker({ ticks: [] });
    return chart;
  }

  const bytes = (text) => Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));

  // A map at all levels; the page shows the one that suits the zoom.
  function drawRaster(chart, name, images, color_mapper, shown) {
    const renderers = images.map((source, i) => {
      const factor = data.factors[i], [rows, cols] = data.maps[name].levels[i].shape;
      const place = { x: -0.5, y: -0.5, dw: cols * factor, dh: rows * factor };
      const visible = shown && i === images.length - 1;
      return add(chart, source, new B.Image({ image: { field: "image" }, ...place, color_mapper }),
        { level: "image", visible, name: `${chart.name}/${name}/${factor}` });
    });
    describe(chart, renderers, "@image", `describe('${name}', value, special_vars)`);
  }

  // What is under the pointer, in words of the page's script.
  function describe(chart, renderers, field, call) {
    const text = new B.CustomJSHover({ code: `return window.cwtDask.${call}` });
    chart.add_tools(new B.HoverTool({ renderers, formatters: { [field]: text }, tooltips: [["", `${field}{custom}`]], visible: false }));
  }

  function markSources(chart, marks, filter, lines, size) {
    add(chart, lines, new B.MultiLine({ xs: { field: "xs" }, ys: { field: "ys" }, line_color: "#7f8c99", line_alpha: 0.55, line_width: 0.8 }));
    // Black below white shows on any colour.
    const looks = [[{ line_color: "black", line_width: 2.4, line_alpha: 0.7 }, "black", 6], [{ line_color: "white", line_width: 1.2 }, "#00e5ff", 3]];
    const [, above] = looks.map(([look, line_color, line_width]) => {
      const circle = { x: { field: "x" }, y: { field: "y" }, size: { field: size }, fill_color: null, ...look };
      const glyph = new B.Scatter(circle);
      const selection_glyph = new B.Scatter({ ...circle, line_color, line_width, line_alpha: 1 });
      return add(chart, marks, glyph, { view: new B.CDSView({ filter }), nonselection_glyph: glyph, selection_glyph });
    });
    describe(chart, [above], "$index", "source(value)");
    chart.toolbar.tools.find((tool) => tool instanceof B.TapTool).renderers = [above];
  }

  // From end to end of the colours: the page sets labels where values of the chosen stretch are.
  function colourBar(chart, name, visible) {
    const color_mapper = new B.LinearColorMapper({ palette: data.maps[name].colours, low: 0, high: 1 });
    chart.add_layout(new B.ColorBar({ name: `bar/${chart.name}/${name}`, color_mapper, visible, width: 12, label_standoff: 5, padding: 3,
      background_fill_color: null, ticker: new B.FixedTicker({ ticks: [] }) }), "right");
  }

  // A length on the sky, in a corner of the close-up.
  function scaleBar(chart) {
    const bar = columns({ xs: [], ys: [], x: [], y: [], text: [] });
    bar.name = "scale-bar";
    for (const [line_color, line_width] of [["black", 5], ["white", 2.5]]) {
      add(chart, bar, new B.MultiLine({ xs: { field: "xs" }, ys: { field: "ys" }, line_color, line_width }));
    }
    add(chart, bar, new B.Text({ x: { field: "x" }, y: { field: "y" }, text: { field: "text" }, text_color: "white", background_fill_color: "black",
      background_fill_alpha: 0.6, padding: 3, text_font_size: "14px", text_align: "center", text_baseline: "bottom", y_offset: -6 }));
  }

  function drawMaps() {
    const ranges = [range("x-range", nx), range("y-range", ny)], closer = [range("close-x", nx), range("close-y", ny)];
    // Circles have their size on the sky, but not less than can be seen: the page sets it for the zoom.
    const marks = columns({ x: data.x, y: data.y, size: data.x.map(() => 11), close: data.x.map(() => 11) }), lines = columns({ xs: [], ys: [] });
    marks.name = "sources";
    lines.name = "lines";
    const filter = new B.IndexFilter({ indices: [], name: "marked" });
    const closeUp = skyFigure("close-up", ...closer), charts = [];
    for (const [name, raster] of Object.entries(data.maps)) {
      const images = raster.levels.map(({ shape, content }) => columns({ image: [ndarray(bytes(content), { dtype: "uint8", shape })] }));
      // Colours by byte.
      const palette = raster.palettes.any ?? raster.palettes.asinh, values = palette.length - 1;
      const mapper = new B.LinearColorMapper({ palette, low: -0.5, high: values + 0.5, name: `mapper-${name}` });
      // What is drawn in the place of another map has no chart of its own.
      const onto = charts.find((one) => one.name === `map-${raster.in_place_of}`), chart = onto ?? skyFigure(`map-${name}`, ...ranges);
      drawRaster(chart, name, images, mapper, !onto);
      drawRaster(closeUp, name, images, mapper, name === data.closer);
      if (raster.colours.length) {
        colourBar(chart, name, !onto);
        colourBar(closeUp, name, name === data.closer);
      }
      if (!onto) charts.push(chart);
    }
    for (const chart of charts) markSources(chart, marks, filter, lines, "size");
    markSources(closeUp, marks, filter, lines, "close");
    scaleBar(closeUp);
    return [...charts, closeUp];
  }

  // --- charts -------------------------------------------------------------------------------------------------------------

  // Cores as rectangles in a colour that the reader chooses the meaning of; of facets the cells' edges and middles.
  function drawTiles() {
    const seconds = data.tiles.seconds, [low, most] = cwtExtremes(seconds);
    const high = most > low ? most : low + Math.max(low, 1);
    const mapper = new B.LinearColorMapper({ palette: B.Palettes.Viridis256, low, high, nan_color: OUTSIDE, name: "tile-mapper" });
    const chart = newChart("tiles", [new B.PanTool(), new B.WheelZoomTool()], { frame_height: HEIGHT - 90,
      x_range: range("tiles-x", nx), y_range: range("tiles-y", ny),
      ...(data.facets ? {} : { x_axis_label: "column (pixels)", y_axis_label: "row (pixels)" }) });
    const { xs, ys, ...middles } = data.facets ?? {};
    const facts = columns({ ...data.tiles, ...middles, shown: seconds });
    facts.name = "tile-facts";
    const fill_color = { field: "shown", transform: mapper };
    if (data.facets) {
      for (const axis of [chart.below[0], chart.left[0]]) axis.visible = false;
      add(chart, columns({ xs, ys }), new B.MultiLine({ xs: { field: "xs" }, ys: { field: "ys" }, line_color: GREY, line_width: 1 }));
    }
    const glyph = data.facets ? new B.Scatter({ x: { field: "x" }, y: { field: "y" }, size: 14, fill_color, line_color: GREY })
      : new B.Quad({ ...edges, fill_color, line_color: "white", line_width: 1 });
    const renderers = [add(chart, facts, glyph)];
    const of_its_own = data.facets ? [["counts in its cell", "@counts"]] : [["largest seam error", "@error"], ["support pixels that differ", "@flips"]];
    chart.add_tools(new B.HoverTool({ renderers, tooltips: [[data.facets ? "facet" : "tile", "@tile"], ["iterations", "@n_iter"], ["time", "@seconds{0.0} s"],
      ["peak memory of its process", "@memory MiB"], ...of_its_own, ["done by", "@done_by"]] }));
    chart.add_layout(new B.ColorBar({ color_mapper: mapper, title: "seconds", name: "tile-bar", width: 12, title_text_font_style: "normal" }), "right");
    return chart;
  }

  // A value between each two edges.
  function addSteps(chart, x, values, look) {
    const steps = columns({ x, y: [...values, ...values.slice(-1)] });
    return add(chart, steps, new B.Step({ x: { field: "x" }, y: { field: "y" }, mode: "after", ...look }));
  }

  // The histogram, and a standard normal one.
  function drawResiduals() {
    const { left, right, floor, pixels, expected, most } = data.residuals;
    const chart = newChart("residuals", [new B.PanTool(), new B.BoxZoomTool(), new B.WheelZoomTool()], { height: HEIGHT, y_axis_type: "log",
      x_axis_label: "residual (standard deviations)", y_axis_label: "pixels per bin", y_range: new B.Range1d({ start: floor, end: 2 * most }) });
    const bars = columns({ left, right, bottom: left.map(() => floor), top: pixels });
    add(chart, bars, new B.Quad({ ...edges, fill_color: BLUE, fill_alpha: 0.35, line_color: BLUE, line_width: 0.5 }));
    addSteps(chart, [...left, right[right.length - 1]], expected, { line_color: RED, line_width: 1.8 });
    return chart;
  }

  // Points by iteration.
  function drawPoints(name, label, [x, y], options) {
    const { iterations } = data.convergence;
    const chart = newChart(name, [new B.PanTool(), new B.BoxZoomTool()], { height: HEIGHT - 60, x_axis_label: "iteration", y_axis_label: label,
      x_range: new B.Range1d({ start: 0.5, end: Math.max(iterations, 2) + 0.5 }), ...options });
    chart.below[0].ticker = new B.BasicTicker({ min_interval: 1, num_minor_ticks: 0 });
    const points = line(chart, x, y, { line_color: BLUE, line_width: 2 });
    const dots = new B.Scatter({ x: { field: "x" }, y: { field: "y" }, fill_color: BLUE, line_color: BLUE, size: 7 });
    add(chart, points.data_source, dots);
    chart.add_tools(new B.HoverTool({ mode: "vline", tooltips: [["iteration", "@x"], [label, "@y{0.0000e+0}"]] }));
    return chart;
  }

  // The variance of the residual, and its relative change.
  function drawConvergence() {
    const { variance, change, tolerance, iterations } = data.convergence;
    const first = drawPoints("variance", "variance of the residual", variance);
    const second = drawPoints("change", "relative change of the variance", change, { y_axis_type: "log" });
    second.left[0].setv({ ticker: new B.LogTicker({ mantissas: [1, 3] }),
      formatter: new B.BasicTickFormatter({ use_scientific: true, power_limit_low: 0, precision: 0 }) });
    if (tolerance > 0) line(second, [0.5, iterations + 0.5], [tolerance, tolerance], { line_color: RED, line_dash: "dashed" });
    return [first, second];
  }

  // Counts around the chosen source, which the page fills in.
  function drawProfile() {
    const chart = newChart("profile", [new B.PanTool(), new B.BoxZoomTool()], { height: 250, x_axis_label: "distance from the source (deg)",
      y_axis_label: "counts per square degree", x_range: new B.Range1d({ start: 0, end: 1 }), y_range: new B.Range1d({ start: 0, end: 1 }) });
    const fitted = addSteps(chart, [], [], { line_color: RED, line_width: 1.8 }), expected = addSteps(chart, [], [], { line_color: GREY, line_dash: "dashed", line_width: 1.8 });
    fitted.data_source.name = "profile-model";
    expected.data_source.name = "profile-background";
    const counted = columns({ x: [], y: [], low: [], high: [] });
    counted.name = "profile-counts";
    add(chart, counted, new B.Segment({ x0: { field: "x" }, x1: { field: "x" }, y0: { field: "low" }, y1: { field: "high" }, line_color: BLUE, line_width: 2 }));
    add(chart, counted, new B.Scatter({ x: { field: "x" }, y: { field: "y" }, fill_color: BLUE, line_color: BLUE, size: 7 }));
    return chart;
  }

  // TS by extension of the chosen source, likewise.
  function drawExtent() {
    const chart = newChart("extent", [new B.PanTool(), new B.BoxZoomTool()], { height: 180, x_axis_label: "extension (deg)", y_axis_label: "TS",
      x_range: new B.Range1d({ start: 0, end: 1 }), y_range: new B.Range1d({ start: 0, end: 1 }) });
    const points = columns({ x: [], y: [] }), fitted = columns({ x: [], low: [], high: [] });
    points.name = "extent-ts";
    fitted.name = "extent-fitted";
    add(chart, fitted, new B.Segment({ x0: { field: "x" }, x1: { field: "x" }, y0: { field: "low" }, y1: { field: "high" }, line_color: RED, line_dash: "dashed", line_width: 1.8 }));
    add(chart, points, new B.Line({ x: { field: "x" }, y: { field: "y" }, line_color: BLUE, line_width: 1.8 }));
    add(chart, points, new B.Scatter({ x: { field: "x" }, y: { field: "y" }, fill_color: BLUE, line_color: BLUE, size: 7 }));
    return chart;
  }

  // Shares of injected sources that are found, a curve a region.
  function drawWorth() {
    const { axis, curves } = data.worth;
    const chart = newChart("worth", [new B.PanTool(), new B.BoxZoomTool()], { height: HEIGHT, x_axis_type: "log", x_axis_label: axis,
      y_axis_label: "share in the catalogue", y_range: new B.Range1d({ start: -0.02, end: 1.02 }) });
    const items = curves.map(({ name, x, y, low, high }, i) => {
      const colour = [BLUE, GREY, RED][i];
      const drawn = line(chart, x, y, { line_color: colour, line_width: 2 });
      const ends = columns({ x, low, high });
      add(chart, ends, new B.Segment({ x0: { field: "x" }, x1: { field: "x" }, y0: { field: "low" }, y1: { field: "high" }, line_color: colour }));
      return new B.LegendItem({ label: name, renderers: [drawn] });
    });
    chart.add_layout(new B.Legend({ items, location: "bottom_right" }));
    return chart;
  }

  return [...drawMaps(), ...(data.worth.curves.length ? [drawWorth()] : []), ...(data.x.length ? [drawProfile(), ...(data.profiles.extensions.length ? [drawExtent()] : [])] : []), drawResiduals(), ...drawConvergence(), drawTiles()];
};

// The look of the page's charts, light or dark.
window.cwtPaint = (charts, dark) => {
  const [ink, line, outside] = dark ? ["#dfe5ea", "#8b97a3", "#2a323a"] : ["#1c2733", "#5f6b76", "#eef0f2"];
  for (const chart of charts) {
    chart.setv({ border_fill_color: null, background_fill_color: outside, outline_line_color: line });
    for (const axis of [...chart.below, ...chart.left, ...chart.right]) {
      axis.setv({ major_label_text_color: ink, major_tick_line_color: line });
      axis.setv(axis instanceof Bokeh.ColorBar ? { title_text_color: ink, background_fill_color: null } : { axis_label_text_color: ink, axis_line_color: line });
    }
  }
};
