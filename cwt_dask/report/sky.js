"use strict";
// Positions on the sky by pixels of the map, lines and labels of coordinates, and lengths.
window.cwtSky = ({ sky, shape: [ny, nx] }) => {
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

  // Degrees between two positions.
  function separation([lon, lat], [other, below]) {
    const rad = Math.PI / 180, sine = (angle) => Math.sin(angle * rad / 2) ** 2;
    return 2 * Math.asin(Math.min(Math.sqrt(sine(lat - below) + Math.cos(lat * rad) * Math.cos(below * rad) * sine(lon - other)), 1)) / rad;
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

  // Lines of coordinates in a view, and labels of both axes of a frame of so many pixels.
  function graticule([x0, x1, y0, y1], [width, height]) {
    const left = Math.max(x0, -0.5), right = Math.min(x1, nx - 0.5), low = Math.max(y0, -0.5), high = Math.min(y1, ny - 0.5);
    const middle = [(left + right) / 2, (low + high) / 2], along = ", along the middle";
    // Where a map of the whole sky does not reach the frame, its lines are named where they cross the middle.
    const lon = labels(sky.meridians, "x", [left, right], [[low + 0.004 * (high - low), ""], [middle[1], along]], Math.max(width / 75, 3));
    const lat = labels(sky.parallels, "y", [low, high], [[left + 0.004 * (right - left), ""], [middle[0], along]], Math.max(height / 32, 3));
    // Zoomed in, there may be none.
    const ticks = [[lon, 0, [x0, x1], y0], [lat, 1, [y0, y1], x0]].map(([found, kind, ends, at]) =>
      found.ticks.length > 1 ? found.ticks : edgeTicks(kind, ...ends, at));
    return { lines: [...lon.lines, ...lat.lines], ticks, titles: [sky.titles[0] + lon.where, sky.titles[1] + lat.where] };
  }

  // Round coordinates along an edge of the close-up: a line of equal x or y, from one value to another.
  function edgeTicks(kind, from, to, at) {
    const points = [...Array(33).keys()].map((i) => from + (to - from) * i / 32);
    const found = points.map((point) => [point, kind ? position(at, point) : position(point, at)]).filter(([, place]) => place);
    if (found.length < 3) return [];
    const values = found.map(([, place]) => place[kind]);
    // Beyond the circle's end it goes on.
    if (!kind) for (let i = 1; i < values.length; i++) values[i] += 360 * Math.round((values[i - 1] - values[i]) / 360);
    const [low, high] = cwtExtremes(values), step = roundAbove((high - low) / 4), ticks = [];
    if (!(step > 0)) return [];
    for (let n = Math.ceil(low / step); n * step <= high; n++) {
      const i = values.findIndex((value, k) => k && (value - n * step) * (values[k - 1] - n * step) <= 0);
      if (i < 1 || values[i] === values[i - 1]) continue;
      const place = found[i - 1][0] + (found[i][0] - found[i - 1][0]) * (n * step - values[i - 1]) / (values[i] - values[i - 1]);
      const shown = kind ? n * step : (n * step % 360 + 360) % 360;
      ticks.push([place, `${Number(shown.toFixed(6))}°`.replace("-", "−")]);
    }
    return ticks;
  }

  // 1, 2 or 5 times a power of ten.
  function roundAbove(value) {
    const power = 10 ** Math.floor(Math.log10(value));
    return [1, 2, 5, 10].map((digit) => digit * power).find((step) => step >= value * (1 - 1e-9));
  }

  // A round length in the corner of a view: its ends, and its words; null off the sky.
  function scaleBar([x0, x1, y0, y1]) {
    const [x, y] = [(x0 + x1) / 2, (y0 + y1) / 2], wide = x1 - x0;
    const ends = [-0.5, 0.5].map((off) => position(x + off * wide / 4, y));
    const perPixel = ends[0] && ends[1] ? separation(...ends) / (wide / 4) : 0;
    if (!perPixel) return null;
    const length = roundAbove(0.12 * wide * perPixel), from = x0 + 0.05 * wide;
    const [unit, factor] = length >= 1 ? ["°", 1] : length * 60 >= 1 ? ["′", 60] : ["″", 3600];
    return { from, to: from + length / perPixel, y: y0 + 0.06 * (y1 - y0), text: `${Number((length * factor).toPrecision(2))}${unit}` };
  }

  return { position, positionText, separation, graticule, edgeTicks, scaleBar };
};
