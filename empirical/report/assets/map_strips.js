// One strip per layer: its channels side by side from the largest value to the smallest, coloured by it.

const STRIP = 14; // pixels of a strip's height

class Strips {
  constructor(root, channels, on) {
    this.channels = channels;
    this.rows = channels.layers.map((layer, l) => {
      const row = document.createElement("div");
      row.className = "cm-strip";
      const name = document.createElement("button");
      name.type = "button";
      name.textContent = layer.name;
      name.title = `${layer.name}: ${layer.channels} channels. Show only these.`;
      name.addEventListener("click", () => on.layer(l));
      const canvas = document.createElement("canvas");
      canvas.setAttribute("aria-hidden", "true");
      canvas.addEventListener("pointermove", (event) => on.hover(this.channelAt(l, event)));
      canvas.addEventListener("pointerleave", () => on.hover(-1));
      canvas.addEventListener("click", (event) => on.pin(this.channelAt(l, event)));
      row.append(name, canvas);
      root.append(row);
      return { canvas, order: [] };
    });
  }

  channelAt(l, event) {
    const { order, canvas } = this.rows[l];
    const box = canvas.getBoundingClientRect();
    const at = Math.floor(((event.clientX - box.left) / box.width) * order.length);
    return order[Math.min(order.length - 1, Math.max(0, at))] ?? -1;
  }

  draw(column, colour, look) {
    const ratio = window.devicePixelRatio || 1;
    this.channels.layers.forEach((layer, l) => {
      const row = this.rows[l];
      const value = (i) => (Number.isFinite(column.values[i]) ? column.values[i] : -Infinity);
      row.order = Array.from({ length: layer.channels }, (_, c) => layer.start + c)
        .sort((a, b) => value(b) - value(a) || a - b);
      const { canvas } = row;
      const width = Math.max(60, Math.round(canvas.getBoundingClientRect().width));
      canvas.width = Math.round(ratio * width);
      canvas.height = Math.round(ratio * STRIP);
      const pen = canvas.getContext("2d");
      pen.scale(ratio, ratio);
      const step = width / row.order.length;
      row.order.forEach((i, k) => {
        const way = look(i);
        pen.globalAlpha = way && !way.faint ? 1 : 0.2;
        pen.fillStyle = colour(i);
        const height = column.doubt[i] ? STRIP / 2 : STRIP;
        if (Number.isFinite(column.values[i])) pen.fillRect(k * step, STRIP - height, Math.max(step, 0.5), height);
      });
    });
  }
}
