// One map: what is chosen, and who is told of it.

class ChannelMap {
  constructor(root) {
    this.root = root;
    const payload = JSON.parse(root.querySelector("script[type='application/json']").textContent);
    const channels = new Channels(payload);
    this.channels = channels;
    this.live = root.querySelector(".cm-live");
    this.live.hidden = false;
    root.querySelector(".cm-static").hidden = true;
    this.part = (name) => root.querySelector(`.cm-${name}`);
    this.hovered = -1;
    this.pinned = -1;
    this.brushed = null;
    this.goes = new Uint8Array(channels.count);
    this.dark = () => getComputedStyle(root).getPropertyValue("--cm-dark").trim() === "1";
    this.choices(payload);
    const on = { hover: (i) => this.hover(i), pin: (i) => this.pin(i), layer: (l) => this.only(l) };
    this.plot = new MapPlot(this.part("figure"), channels);
    this.strips = new Strips(this.part("strips"), channels, on);
    this.table = new ChannelRows(this.part("rows"), channels, on);
    if (payload.plan) {
      this.whatIf = new WhatIf(this.part("what-if"), channels, payload.plan, (goes) => {
        this.goes = goes;
        if (!this.table.indices) return;
        if (this.part("which").value === "goes") this.filter(); else this.redraw();
      });
    } else {
      this.part("what-if").hidden = true;
    }
    this.pointer();
    this.keys();
    this.everything();
    this.watch();
  }

  choices(payload) {
    const menus = ["x", "y"].map((name) => this.part(name));
    menus.forEach((menu, k) => {
      for (const column of this.channels.columns) menu.add(new Option(`${column.label} (${column.unit})`, column.name));
      menu.value = payload.start[k];
    });
    const colour = this.part("colour");
    colour.add(new Option("layer, first to last", ""));
    for (const column of this.channels.columns) colour.add(new Option(column.label, column.name));
    const layer = this.part("layer");
    layer.add(new Option("all layers", ""));
    this.channels.layers.forEach((own, l) => layer.add(new Option(`${own.name} (${own.channels})`, l)));
    for (const menu of [...menus, colour, this.part("doubts"), this.part("wide")]) {
      menu.addEventListener("change", () => this.everything());
    }
    layer.addEventListener("change", () => this.filter());
    const which = this.part("which");
    which.add(new Option("all", ""));
    this.channels.kinds.forEach((kind, bit) => {
      const number = this.channels.special.reduce((sum, bits) => sum + ((bits >> bit) & 1), 0);
      if (number || this.channels.moments) which.add(new Option(`${kind.name} (${number})`, bit));
    });
    if (payload.plan) which.add(new Option("go at the setting below", "goes"));
    which.closest("label").hidden = which.options.length < 2;
    which.addEventListener("change", () => this.filter());
    this.times();
    this.part("search").addEventListener("input", () => this.filter());
    this.part("clear").addEventListener("click", () => this.reset());
    this.part("csv").addEventListener("click", () => this.download());
  }

  // Where channels move: a slider through the moments, and whether their ways are drawn.
  times() {
    const { moments } = this.channels;
    this.part("moments").hidden = !moments;
    this.moment = moments ? moments.length - 1 : 0;
    if (!moments) return;
    const slider = this.part("moment");
    slider.max = this.moment;
    slider.value = this.moment;
    const tell = () => {
      this.moment = Number(slider.value);
      this.part("moment-name").textContent = moments[this.moment];
      slider.setAttribute("aria-valuetext", moments[this.moment]);
    };
    slider.addEventListener("input", () => { tell(); this.plot.arrange(this.x, this.y, this.moment); this.select(this.brushed); });
    this.part("trails").checked = this.channels.count * moments.length <= 300;
    this.part("trails").addEventListener("change", () => this.redraw());
    this.part("hint").textContent = "Drag to select. A dot is where a channel stands at this moment; a line leads there from where it stood first.";
    tell();
  }

  everything() {
    const column = (name) => this.channels.byName.get(this.part(name).value);
    this.x = { column: column("x") };
    this.y = { column: column("y") };
    for (const side of [this.x, this.y]) side.log = side.column.scale === "log";
    this.tint = column("colour") ?? null;
    const main = ["peer_predictability", "task_information", "conditional_task_information", "hull_size"];
    const sides = [this.x.column.name, this.y.column.name];
    const wanted = this.channels.moments
      ? [...[...sides, "peer_predictability"].flatMap((name) => [name, `${name}_change`]), "correlation"]
      : [...sides, ...(this.tint ? [this.tint.name] : []), ...main];
    const few = [...new Set(wanted)].map((name) => this.channels.byName.get(name)).filter(Boolean);
    this.table.show(this.part("wide").checked ? this.channels.columns : few);
    this.plot.arrange(this.x, this.y, this.moment);
    this.palette();
    this.filter();
  }

  palette() {
    const dark = this.dark();
    const last = Math.max(1, this.channels.layers.length - 1);
    this.byLayer = this.channels.layers.map((_, l) => rampColour(l / last, dark));
    const scaleOf = (column) => {
      const scale = axisScale(column, column.scale === "log", 1000);
      return (i) => {
        const found = scale && scale.place(column.values[i]);
        return found ? rampColour(found.at / 1000, dark) : "#888";
      };
    };
    this.colour = this.tint ? scaleOf(this.tint) : (i) => this.byLayer[this.channels.layerOf[i]];
    this.strip = this.tint ?? this.y.column;
    this.stripColour = scaleOf(this.strip);
    const ends = this.tint
      ? [`low ${this.tint.label}`, "high"]
      : [this.channels.layers[0].name, this.channels.layers.at(-1).name];
    const bar = Array.from({ length: 9 }, (_, k) => rampColour(k / 8, dark)).join(",");
    const legend = this.part("legend");
    legend.replaceChildren();
    element(legend, "span", ends[0]);
    element(legend, "i").style.background = `linear-gradient(90deg, ${bar})`;
    element(legend, "span", ends[1]);
    this.part("strip-name").textContent = this.strip.label;
  }

  // Which channels pass layer, search and doubt; the brush lies on top of it.
  filter() {
    const { passes, wrong } = searcher(this.channels, this.part("search").value);
    this.part("wrong").textContent = wrong.length ? `not understood: ${wrong.join(", ")}` : "";
    const layer = this.part("layer").value;
    const hide = this.part("doubts").checked;
    const which = this.part("which").value;
    const [x, y] = [this.x.column, this.y.column];
    this.passing = new Uint8Array(this.channels.count);
    for (let i = 0; i < this.channels.count; i += 1) {
      this.passing[i] = (layer === "" || this.channels.layerOf[i] === Number(layer)) && passes(i)
        && (which === "" || (which === "goes" ? this.goes[i] : (this.channels.special[i] >> Number(which)) & 1))
        && !(hide && (x.doubt[i] || y.doubt[i])) ? 1 : 0;
    }
    this.select(this.brushed);
  }

  select(brushed) {
    this.brushed = brushed;
    const chosen = [];
    for (let i = 0; i < this.channels.count; i += 1) {
      if (this.passing[i] && (!brushed || brushed[i])) chosen.push(i);
    }
    this.table.select(chosen);
    this.redraw();
    const missing = chosen.filter((i) => Number.isNaN(this.plot.at[2 * i])).length;
    this.part("missing").textContent = missing
      ? `${grouped(missing)} of these are not drawn: they have no value on one of the axes.` : "";
  }

  look(i) {
    if (!this.passing[i]) return null;
    return {
      colour: this.colour(i),
      faint: Boolean(this.brushed && !this.brushed[i]),
      hollow: Boolean(this.x.column.doubt[i] || this.y.column.doubt[i]),
      cross: Boolean(this.goes[i]),
      trail: this.part("trails").checked,
    };
  }

  redraw() {
    this.plot.draw((i) => this.look(i));
    this.strips.draw(this.strip, this.stripColour, (i) => this.look(i));
    this.point();
  }

  point() {
    const i = this.hovered >= 0 ? this.hovered : this.pinned;
    this.plot.point(i);
    this.table.mark(i);
    fillCard(this.part("card"), this.channels, i, {
      goes: i >= 0 && this.goes[i] === 1,
      pick: (peer) => this.pin(peer),
      side: (this.channels.moments && this.channels.changeOf(this.x.column)) || this.x.column,
      order: this.table.order,
    });
    this.part("said").textContent = i < 0 ? "" : summary(this.channels, i, [this.x.column, this.y.column]);
  }

  hover(i) {
    if (i === this.hovered) return;
    this.hovered = i;
    this.point();
  }

  pin(i) {
    this.pinned = i === this.pinned && this.hovered < 0 ? -1 : i;
    this.hovered = -1;
    this.point();
  }

  only(l) {
    this.part("layer").value = String(l);
    this.filter();
  }

  reset() {
    this.part("search").value = "";
    this.part("layer").value = "";
    this.part("which").value = "";
    this.part("doubts").checked = false;
    this.pinned = -1;
    this.brushed = null;
    this.filter();
  }

  pointer() {
    const area = this.plot.overlay;
    const at = (event) => {
      const box = area.getBoundingClientRect();
      const scale = this.plot.width / box.width;
      return [(event.clientX - box.left) * scale, (event.clientY - box.top) * scale];
    };
    let from = null;
    area.addEventListener("pointerdown", (event) => {
      if (event.button !== 0) return;
      from = at(event);
      area.setPointerCapture(event.pointerId);
    });
    area.addEventListener("pointermove", (event) => {
      const now = at(event);
      if (from && Math.hypot(now[0] - from[0], now[1] - from[1]) > 5) {
        this.plot.rectangle(from, now);
        return;
      }
      this.hover(this.plot.nearest(...now));
      area.style.cursor = this.hovered >= 0 ? "pointer" : "crosshair";
    });
    area.addEventListener("pointerup", (event) => {
      if (!from) return;
      const now = at(event);
      const start = from;
      from = null;
      this.plot.rectangle(null);
      if (Math.hypot(now[0] - start[0], now[1] - start[1]) > 5) {
        this.select(this.plot.within(start, now));
      } else {
        const hit = this.plot.nearest(...now);
        if (hit < 0) this.select(null);
        this.pin(hit);
      }
    });
    area.addEventListener("pointercancel", () => { from = null; this.plot.rectangle(null); });
    area.addEventListener("pointerleave", () => { if (!from) this.hover(-1); });
  }

  // Arrows walk through the channels that are shown, in the order of the table.
  keys() {
    const figure = this.part("figure");
    figure.addEventListener("keydown", (event) => {
      const step = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 }[event.key];
      const { order } = this.table;
      if (step && order.length) {
        const now = order.indexOf(this.hovered >= 0 ? this.hovered : this.pinned);
        this.hover(order[now < 0 ? (step > 0 ? 0 : order.length - 1) : (now + step + order.length) % order.length]);
      } else if (event.key === "Enter" && this.hovered >= 0) {
        this.pin(this.hovered);
      } else if (event.key === "Escape") {
        this.pinned = -1;
        this.hovered = -1;
        this.select(null);
      } else {
        return;
      }
      event.preventDefault();
    });
  }

  watch() {
    const again = () => { this.plot.arrange(this.x, this.y, this.moment); this.palette(); this.select(this.brushed); };
    let width = this.plot.width;
    new ResizeObserver(() => {
      const now = Math.round(this.part("figure").getBoundingClientRect().width);
      if (now && Math.abs(now - width) > 1) { width = now; again(); }
    }).observe(this.part("figure"));
    window.matchMedia("(prefers-color-scheme: dark)").addEventListener("change", again);
    window.matchMedia("print").addEventListener("change", again);
  }

  download() {
    const address = URL.createObjectURL(new Blob([this.table.csv()], { type: "text/csv" }));
    const link = document.createElement("a");
    link.href = address;
    link.download = "channels.csv";
    link.click();
    URL.revokeObjectURL(address);
  }
}

window.channelMaps = Array.from(document.querySelectorAll(".channel-map"), (root) => new ChannelMap(root));
