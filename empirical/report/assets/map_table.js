// The table beside the map: what is selected, sorted, a hundred rows at a time.

const PAGE_ROWS = 100;

class ChannelRows {
  constructor(root, channels, on) {
    this.channels = channels;
    this.on = on;
    this.head = root.querySelector("thead tr");
    this.body = root.querySelector("tbody");
    this.count = root.querySelector(".cm-count");
    this.more = root.querySelector(".cm-more");
    this.sort = { key: null, down: true };
    this.limit = PAGE_ROWS;
    this.more.addEventListener("click", () => { this.limit += PAGE_ROWS; this.fill(); });
    const rowOf = (event) => event.target.closest("tr[data-i]");
    this.body.addEventListener("pointerover", (event) => rowOf(event) && on.hover(Number(rowOf(event).dataset.i)));
    this.body.addEventListener("pointerleave", () => on.hover(-1));
    this.body.addEventListener("click", (event) => rowOf(event) && on.pin(Number(rowOf(event).dataset.i)));
  }

  // Which columns stand in the table; the first is the order unless another was chosen.
  show(columns) {
    this.columns = columns;
    this.head.replaceChildren();
    const titles = [["layer", "channel", ""], ...columns.map((c) => [c.name, c.unit === "points" ? `${c.label} (points)` : c.label, `${c.what} Unit: ${c.unit}.`])];
    if (this.channels.special_any) titles.push(["special", "special", "What is special about the channel."]);
    for (const [key, text, about] of titles) {
      const cell = element(this.head, "th");
      cell.scope = "col";
      const button = element(cell, "button", text);
      button.type = "button";
      button.title = about;
      button.addEventListener("click", () => {
        this.sort = { key, down: this.sort.key === key ? !this.sort.down : key !== "layer" };
        this.limit = PAGE_ROWS;
        this.arrange();
      });
      cell.dataset.key = key;
    }
    if (!this.sort.key || (!["layer", "special"].includes(this.sort.key) && !columns.some((c) => c.name === this.sort.key))) {
      const turned = this.channels.moments && this.channels.special_any; // those stand first
      this.sort = turned ? { key: "special", down: true } : { key: "layer", down: false };
    }
  }

  select(indices) {
    this.indices = indices;
    this.limit = PAGE_ROWS;
    this.arrange();
  }

  arrange() {
    const { key, down } = this.sort;
    for (const cell of this.head.children) {
      cell.setAttribute("aria-sort", cell.dataset.key !== key ? "none" : down ? "descending" : "ascending");
    }
    const column = key === "special" ? { values: Float32Array.from(this.channels.special) } : this.channels.byName.get(key);
    const sign = down ? -1 : 1;
    const missing = (i) => (column && !Number.isFinite(column.values[i]) ? 1 : 0); // last either way
    this.order = Array.from(this.indices).sort((a, b) => missing(a) - missing(b)
      || (column && !missing(a) ? sign * (column.values[a] - column.values[b]) : 0)
      || (column ? a - b : sign * (a - b)));
    this.fill();
  }

  fill() {
    const rows = this.order.slice(0, this.limit).map((i) => {
      const row = document.createElement("tr");
      row.dataset.i = i;
      const name = element(row, "th");
      name.scope = "row";
      element(name, "button", this.channels.name(i)).type = "button";
      for (const column of this.columns) element(row, "td", cellText(column, i), column.doubt[i] ? "cm-doubt" : "");
      const kinds = this.channels.special_kinds(i);
      if (this.channels.special_any) element(row, "td", kinds.map((kind) => kind.name).join(", "), "cm-kind");
      return row;
    });
    this.body.replaceChildren(...rows);
    this.count.textContent = `${grouped(this.order.length)} of ${grouped(this.channels.count)} channels`;
    this.more.hidden = this.order.length <= this.limit;
    this.mark(this.marked ?? -1);
  }

  mark(i) {
    this.marked = i;
    for (const row of this.body.children) row.classList.toggle("cm-marked", Number(row.dataset.i) === i);
  }

  before(column) { return column.way.length > 1 ? this.channels.changeOf(column) : null; }

  // Every quantity of the rows shown, with standard errors, as text of a CSV file.
  csv() {
    const plain = (text) => (/^'*[=+\-@\t\n]/.test(text) ? `'${text}` : text); // no formula for a spreadsheet
    const quote = (text) => (/[",\n]/.test(text) ? `"${text.replace(/"/g, '""')}"` : text);
    const value = (v) => (Number.isFinite(v) ? String(Number(v.toPrecision(7))) : "");
    const head = ["layer", "channel", ...(this.channels.counterparts ? ["counterpart"] : [])];
    for (const c of this.channels.columns) head.push(...(this.before(c) ? [`${c.name}_before`] : []), c.name, ...(c.errors ? [`${c.name}_se`] : []));
    head.push("affected");
    const lines = this.order.map((i) => {
      const cells = [quote(plain(this.channels.layer(i).name)), this.channels.channel(i)];
      if (this.channels.counterparts) cells.push(this.channels.counterparts[i]);
      for (const c of this.channels.columns) {
        const change = this.before(c);
        if (change) cells.push(value(c.values[i] - change.values[i]));
        cells.push(value(c.values[i]), ...(c.errors ? [value(c.errors[i])] : []));
      }
      cells.push(this.channels.special_kinds(i).map((kind) => kind.name).join(" + "));
      return cells.join(",");
    });
    return [head.join(","), ...lines].join("\n") + "\n";
  }
}
