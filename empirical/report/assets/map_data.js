// The channels of all layers, one after another, unpacked from what the page holds.

function bytesOf(text) {
  const raw = atob(text);
  const bytes = new Uint8Array(raw.length);
  for (let i = 0; i < raw.length; i += 1) bytes[i] = raw.charCodeAt(i);
  return bytes;
}

const floatsOf = (text) => new Float32Array(bytesOf(text).buffer);

const countsOf = (text) => (text ? new Uint16Array(bytesOf(text).buffer) : null);

function joined(parts) {
  const all = new Float32Array(parts.reduce((sum, part) => sum + part.length, 0));
  let at = 0;
  for (const part of parts) { all.set(part, at); at += part.length; }
  return all;
}

function halvesOf(text) { // the upper 16 bits of single precision
  const halves = new Uint16Array(bytesOf(text).buffer);
  const whole = new Uint32Array(halves.length);
  for (let i = 0; i < halves.length; i += 1) whole[i] = halves[i] << 16;
  return new Float32Array(whole.buffer);
}

function bitsOf(text, length) {
  const bytes = bytesOf(text);
  const bits = new Uint8Array(length);
  for (let i = 0; i < length; i += 1) bits[i] = (bytes[i >> 3] >> (i & 7)) & 1;
  return bits;
}

class Channels {
  constructor(payload) {
    this.kinds = payload.kinds;
    this.layers = [];
    let start = 0;
    for (const layer of payload.layers) {
      this.layers.push({ ...layer, start, stop: start + layer.channels });
      start += layer.channels;
    }
    this.count = start;
    this.layerOf = new Uint16Array(start);
    this.layers.forEach((layer, l) => this.layerOf.fill(l, layer.start, layer.stop));
    this.special = bytesOf(payload.special);
    this.special_any = this.special.some((bits) => bits > 0);
    this.moments = payload.moments ?? null; // names, where channels move
    this.labels = countsOf(payload.channels); // indices in their layers, where not all are there
    this.counterparts = countsOf(payload.counterparts);
    this.columns = payload.columns.map((column) => {
      const values = floatsOf(column.values);
      const way = [...(column.way ?? []).map(halvesOf), values]; // the last moment at the end
      return {
        ...column,
        values,
        way,
        all: way.length > 1 ? joined(way) : values,
        errors: column.errors === null ? null : halvesOf(column.errors),
        doubt: bitsOf(column.doubt, start),
      };
    });
    this.byName = new Map(this.columns.map((column) => [column.name, column]));
    const hull = payload.hull;
    this.hull = hull && {
      width: hull.width,
      members: new Int16Array(bytesOf(hull.members).buffer),
      weights: halvesOf(hull.weights),
      gains: halvesOf(hull.gains),
    };
    this.ranks = new Map();
  }

  layer(i) { return this.layers[this.layerOf[i]]; }

  channel(i) { return this.labels ? this.labels[i] : i - this.layer(i).start; }

  name(i) {
    const other = this.counterparts && this.counterparts[i] !== this.channel(i) ? ` → ${this.counterparts[i]}` : "";
    return `${this.layer(i).name} · ${this.channel(i)}${other}`;
  }

  changeOf(column) { return this.byName.get(`${column.name}_change`); }

  // Peers that predict a channel, in the order of choice.
  peers(i) {
    const found = [];
    for (let k = 0; this.hull && k < this.hull.width; k += 1) {
      const at = i * this.hull.width + k;
      const member = this.hull.members[at];
      if (member < 0) break;
      found.push({
        index: this.layer(i).start + member,
        weight: this.hull.weights[at],
        gain: this.hull.gains[at],
      });
    }
    return found;
  }

  special_kinds(i) { return this.kinds.filter((_, bit) => (this.special[i] >> bit) & 1); }

  // Rank of a channel from the largest of its layer, 1, and how many have a value.
  rank(column, i) {
    const key = `${column.name}/${this.layerOf[i]}`;
    if (!this.ranks.has(key)) {
      const { start, stop } = this.layer(i);
      const known = Array.from(column.values.subarray(start, stop)).filter(Number.isFinite);
      this.ranks.set(key, Float32Array.from(known).sort());
    }
    const known = this.ranks.get(key);
    const value = column.values[i];
    if (!Number.isFinite(value)) return null;
    let low = 0;
    let high = known.length;
    while (low < high) {
      const middle = (low + high) >> 1;
      if (known[middle] > value) high = middle; else low = middle + 1;
    }
    return { rank: 1 + known.length - low, of: known.length };
  }

  interval(column, i) {
    const error = column.errors ? column.errors[i] : NaN;
    if (!Number.isFinite(error) || !Number.isFinite(column.values[i])) return null;
    return [column.values[i] - column.clear * error, column.values[i] + column.clear * error];
  }
}

// 3.2e-7 as 3.2 × 10⁻⁷, and a power of ten without a factor of 1.
function powerOfTen(value, digits) {
  const [factor, power] = value.toExponential(digits - 1).split("e");
  const raised = power.replace("+", "").replace(/./g, (c) => "⁻⁰¹²³⁴⁵⁶⁷⁸⁹"["-0123456789".indexOf(c)]);
  return `${Number(factor) === 1 && digits === 1 ? "" : `${factor} × `}10${raised}`;
}

// A number as text; a dash where there is none.
function shown(value, unit) {
  if (!Number.isFinite(value)) return "–";
  if (unit === "channels") return String(Math.round(value));
  if (unit === "share" || unit === "points") {
    const percent = 100 * value;
    const text = Math.abs(percent) < 9.95 ? percent.toFixed(1) : String(Math.round(percent));
    return unit === "share" ? `${text} %` : text;
  }
  if (value === 0) return "0";
  const size = Math.abs(value);
  if (size < 1e-3 || size >= 1e5) return powerOfTen(value, 2);
  return String(Number(value.toPrecision(3)));
}

// What a table shows of a channel: in brackets what its interval does not tell from the bottom.
function cellText(column, i) {
  const value = column.values[i];
  const text = `${column.signed && value > 0 ? "+" : ""}${shown(value, column.unit)}`;
  if (column.way.length > 1) return `${shown(column.way[0][i], column.unit)} → ${text}`;
  return column.doubt[i] && text !== "–" ? `(${text})` : text;
}

const grouped = (number) => Math.round(number).toLocaleString("en-US");

// Rows that pass a search: parts of layer names, layer · channel, and "quantity > number".
function searcher(channels, text) {
  const terms = text.trim().toLowerCase().replace(/\s*([<>]=?)\s*/g, "$1").split(/\s+/).filter(Boolean);
  const wrong = [];
  const tests = terms.map((term) => {
    const parts = term.match(/^([a-z_]+)([<>]=?)(.+)$/);
    if (!parts) {
      const [layer, channel] = term.split(/[·#:]/);
      return (i) => channels.layer(i).name.toLowerCase().includes(layer)
        && (channel === undefined || channel === "" || channels.channel(i) === Number(channel));
    }
    const found = channels.columns.filter((column) => column.name.startsWith(parts[1]));
    const column = channels.byName.get(parts[1]) || (found.length === 1 ? found[0] : null);
    const share = parts[3].endsWith("%");
    const bound = Number(parts[3].replace("%", "")) / (share ? 100 : 1);
    if (!column || Number.isNaN(bound)) {
      wrong.push(term);
      return () => true;
    }
    return {
      ">": (i) => column.values[i] > bound,
      "<": (i) => column.values[i] < bound,
      ">=": (i) => column.values[i] >= bound,
      "<=": (i) => column.values[i] <= bound,
    }[parts[2]];
  });
  return { passes: (i) => tests.every((test) => test(i)), wrong };
}
