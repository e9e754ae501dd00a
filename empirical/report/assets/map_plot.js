// Two quantities against each other: points on a canvas, axes and brush in SVG above it.

const SVG = "http://www.w3.org/2000/svg";
const MARGIN = { left: 62, right: 14, top: 12, bottom: 46 };
const GUTTER = 16; // beside a logarithmic axis, for what is not above 0
const REACH = 16; // pixels within which a point is hit

function svg(parent, kind, attributes, text) {
  const node = document.createElementNS(SVG, kind);
  for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, value);
  if (text !== undefined) node.textContent = text;
  parent.appendChild(node);
  return node;
}

// From a quantity's values to the length of an axis; `edge` says where a value is beyond it.
function axisScale(column, log, length) {
  const known = Array.from(column.all).filter((v) => Number.isFinite(v) && (!log || v > 0));
  known.sort((a, b) => a - b);
  if (!known.length) return null;
  const at = (share) => known[Math.round(share * (known.length - 1))];
  let low = at(0);
  let high = at(1);
  const spread = at(0.98) - at(0.02);
  if (!log && spread > 0) { // a few far out do not flatten the rest
    low = Math.max(low, at(0.02) - 0.5 * spread);
    high = Math.min(high, at(0.98) + 0.5 * spread);
  }
  if (column.unit === "share") low = Math.min(high, Math.max(low, -1)); // a ratio of small losses may be anything
  if (log) low = Math.max(low, high * 1e-9);
  if (low === high) { low -= Math.abs(low) / 2 || 0.5; high += Math.abs(high) / 2 || 0.5; }
  const through = log ? Math.log10 : (v) => v;
  const pad = 0.03 * (through(high) - through(low));
  const [from, to] = [through(low) - pad, through(high) + pad];
  const gutter = log && column.all.some((v) => v <= 0) ? GUTTER : 0;
  return {
    log,
    gutter,
    ticks: log ? logTicks(from, to) : linearTicks(from, to),
    place(value) {
      if (!Number.isFinite(value)) return null;
      if (log && value <= 0) return { at: gutter / 2, edge: true };
      const share = (through(value) - from) / (to - from);
      const at = gutter + Math.min(1, Math.max(0, share)) * (length - gutter);
      return { at, edge: share < 0 || share > 1 };
    },
  };
}

function linearTicks(from, to) {
  const raw = (to - from) / 5;
  const power = 10 ** Math.floor(Math.log10(raw));
  const step = power * [1, 2, 5, 10].find((factor) => factor * power >= raw);
  const ticks = [];
  for (let k = Math.ceil(from / step); k * step <= to; k += 1) ticks.push(k * step);
  return ticks;
}

function logTicks(from, to) {
  const step = Math.max(1, Math.ceil((to - from) / 6));
  const ticks = [];
  for (let k = Math.ceil(from); k <= to; k += step) ticks.push(10 ** k);
  return ticks.length > 1 ? ticks : [10 ** from, 10 ** ((from + to) / 2), 10 ** to];
}

function tickText(value, unit, log) {
  if (unit === "share" || unit === "points") return `${Number((100 * value).toPrecision(3))}${unit === "share" ? " %" : ""}`;
  if (log && (value < 1e-3 || value >= 1e4)) return powerOfTen(value, 1);
  return String(Number(value.toPrecision(3)));
}

const RAMP = [[68, 1, 84], [65, 68, 135], [42, 120, 142], [34, 168, 132], [122, 209, 81], [253, 231, 37]];

function rampColour(share, dark) { // the ends that the ground swallows are left out
  const at = 5 * (dark ? 0.3 + 0.7 * share : 0.88 * share);
  const k = Math.min(4, Math.floor(at));
  const mix = RAMP[k].map((low, c) => Math.round(low + (at - k) * (RAMP[k + 1][c] - low)));
  return `rgb(${mix.join(",")})`;
}

class MapPlot {
  constructor(figure, channels) {
    this.channels = channels;
    this.canvas = figure.querySelector("canvas");
    this.overlay = figure.querySelector("svg");
    this.figure = figure;
  }

  // Lay out the axes for two columns and place every channel, at a moment and on its way there.
  arrange(x, y, moment) {
    const box = this.figure.getBoundingClientRect();
    this.width = Math.max(240, Math.round(box.width));
    this.height = Math.round(Math.min(560, Math.max(300, 0.66 * this.width)));
    this.inner = [this.width - MARGIN.left - MARGIN.right, this.height - MARGIN.top - MARGIN.bottom];
    const scales = [axisScale(x.column, x.log, this.inner[0]), axisScale(y.column, y.log, this.inner[1])];
    const valuesAt = (side, m) => side.column.way[Math.min(m, side.column.way.length - 1)];
    this.steps = [];
    for (let m = 0; m <= moment; m += 1) this.steps.push(this.placed(scales, valuesAt(x, m), valuesAt(y, m)));
    this.at = this.steps[moment];
    this.last = !this.channels.moments || moment === this.channels.moments.length - 1;
    this.axes(x, y, scales);
  }

  placed(scales, across, up) {
    const at = new Float32Array(2 * this.channels.count).fill(NaN);
    this.edge = new Uint8Array(this.channels.count);
    for (let i = 0; i < this.channels.count; i += 1) {
      const [h, v] = [across, up].map((values, k) => scales[k] && scales[k].place(values[i]));
      if (!h || !v) continue;
      at[2 * i] = MARGIN.left + h.at;
      at[2 * i + 1] = MARGIN.top + this.inner[1] - v.at;
      this.edge[i] = h.edge || v.edge;
    }
    return at;
  }

  // The way of one channel up to the moment shown, as the commands of a path.
  way(i) {
    return this.steps.filter((at) => !Number.isNaN(at[2 * i]))
      .map((at, k) => `${k ? "L" : "M"}${at[2 * i].toFixed(1)} ${at[2 * i + 1].toFixed(1)}`).join("");
  }

  axes(x, y, scales) {
    const { overlay, width, height } = this;
    overlay.replaceChildren();
    overlay.setAttribute("viewBox", `0 0 ${width} ${height}`);
    overlay.style.height = `${height}px`;
    const [w, h] = this.inner;
    const foot = MARGIN.top + h;
    svg(overlay, "rect", { x: MARGIN.left, y: MARGIN.top, width: w, height: h, class: "cm-frame" });
    [[x, scales[0]], [y, scales[1]]].forEach(([side, scale], k) => {
      if (!scale) return;
      const line = (at, text, mark) => {
        const p = k === 0 ? MARGIN.left + at : foot - at;
        if (mark) {
          svg(overlay, "line", k === 0
            ? { x1: p, x2: p, y1: MARGIN.top, y2: foot, class: "cm-grid" }
            : { x1: MARGIN.left, x2: MARGIN.left + w, y1: p, y2: p, class: "cm-grid" });
        }
        svg(overlay, "text", k === 0
          ? { x: p, y: foot + 16, "text-anchor": "middle" }
          : { x: MARGIN.left - 6, y: p + 4, "text-anchor": "end" }, text);
      };
      for (const tick of scale.ticks) {
        const { at } = scale.place(tick);
        const beside = scale.gutter && at < scale.gutter + (k === 0 ? 26 : 12); // the gutter's own text stands there
        line(at, beside ? "" : tickText(tick, side.column.unit, scale.log), true);
      }
      if (scale.gutter) line(scale.gutter / 2, "≤0", false);
    });
    const name = (side) => `${side.column.label} (${side.column.unit})`;
    svg(overlay, "text", { x: MARGIN.left + w / 2, y: height - 8, "text-anchor": "middle", class: "cm-name" }, name(x));
    const middle = MARGIN.top + h / 2;
    svg(overlay, "text", {
      x: 14, y: middle, "text-anchor": "middle", class: "cm-name", transform: `rotate(-90 14 ${middle})`,
    }, name(y));
    this.path = svg(overlay, "path", { class: "cm-whiskers" });
    this.whiskers = svg(overlay, "path", { class: "cm-whiskers" });
    this.ring = svg(overlay, "circle", { r: 7, class: "cm-ring", visibility: "hidden" });
    this.box = svg(overlay, "rect", { class: "cm-brush", visibility: "hidden" });
    this.scales = scales;
    this.sides = [x, y];
  }

  // Draw every point that `look` does not leave out: {colour, faint, hollow, cross} or null.
  draw(look) {
    const ratio = window.devicePixelRatio || 1;
    const { canvas, width, height } = this;
    canvas.width = Math.round(ratio * width);
    canvas.height = Math.round(ratio * height);
    canvas.style.height = `${height}px`;
    const pen = canvas.getContext("2d");
    pen.setTransform(ratio, 0, 0, ratio, 0, 0);
    pen.clearRect(0, 0, width, height);
    const radius = this.channels.count > 1500 ? 2.6 : 3.4;
    this.drawn = new Uint8Array(this.channels.count);
    for (let i = 0; i < this.channels.count && this.steps.length > 1; i += 1) {
      const way = look(i);
      if (!way || !way.trail) continue;
      pen.globalAlpha = way.faint ? 0.06 : 0.3;
      pen.strokeStyle = way.colour;
      pen.lineWidth = 1;
      pen.stroke(new Path2D(this.way(i)));
    }
    for (const front of [false, true]) {
      for (let i = 0; i < this.channels.count; i += 1) {
        const x = this.at[2 * i];
        const way = Number.isNaN(x) ? null : look(i);
        if (!way || way.faint === front) continue;
        const y = this.at[2 * i + 1];
        this.drawn[i] = 1;
        pen.globalAlpha = way.faint ? 0.15 : 0.75;
        pen.fillStyle = way.colour;
        pen.strokeStyle = way.colour;
        pen.lineWidth = way.cross ? 1.6 : 1;
        pen.beginPath();
        if (way.cross) {
          pen.moveTo(x - radius, y - radius); pen.lineTo(x + radius, y + radius);
          pen.moveTo(x - radius, y + radius); pen.lineTo(x + radius, y - radius);
          pen.stroke();
        } else {
          pen.arc(x, y, radius, 0, 2 * Math.PI);
          if (way.hollow || this.edge[i]) pen.stroke(); else pen.fill();
        }
      }
    }
    pen.globalAlpha = 1;
  }

  nearest(x, y) {
    let best = -1;
    let least = REACH * REACH;
    for (let i = 0; i < this.channels.count; i += 1) {
      if (!this.drawn[i]) continue;
      const d = (this.at[2 * i] - x) ** 2 + (this.at[2 * i + 1] - y) ** 2;
      if (d < least) { least = d; best = i; }
    }
    return best;
  }

  // A ring and the ends of both intervals around one channel; -1 for none.
  point(i) {
    const [x, y] = i < 0 ? [NaN, NaN] : [this.at[2 * i], this.at[2 * i + 1]];
    const there = !Number.isNaN(x);
    this.ring.setAttribute("visibility", there ? "visible" : "hidden");
    this.whiskers.setAttribute("d", "");
    this.path.setAttribute("d", there && this.steps.length > 1 ? this.way(i) : "");
    if (!there) return;
    this.ring.setAttribute("cx", x);
    this.ring.setAttribute("cy", y);
    const path = this.sides.map((side, k) => {
      const ends = this.last && this.channels.interval(side.column, i);
      if (!ends) return "";
      const [low, high] = ends.map((end) => this.scales[k].place(end).at);
      return k === 0
        ? `M${MARGIN.left + low} ${y}H${MARGIN.left + high}`
        : `M${x} ${MARGIN.top + this.inner[1] - low}V${MARGIN.top + this.inner[1] - high}`;
    });
    this.whiskers.setAttribute("d", path.join(""));
  }

  rectangle(a, b) {
    if (!a) { this.box.setAttribute("visibility", "hidden"); return; }
    const [x, y] = [Math.min(a[0], b[0]), Math.min(a[1], b[1])];
    const size = { x, y, width: Math.abs(a[0] - b[0]), height: Math.abs(a[1] - b[1]), visibility: "visible" };
    for (const [name, value] of Object.entries(size)) this.box.setAttribute(name, value);
  }

  within(a, b) {
    const found = new Uint8Array(this.channels.count);
    const [left, right] = [Math.min(a[0], b[0]), Math.max(a[0], b[0])];
    const [top, foot] = [Math.min(a[1], b[1]), Math.max(a[1], b[1])];
    for (let i = 0; i < found.length; i += 1) {
      const [x, y] = [this.at[2 * i], this.at[2 * i + 1]];
      found[i] = this.drawn[i] && x >= left && x <= right && y >= top && y <= foot ? 1 : 0;
    }
    return found;
  }
}
