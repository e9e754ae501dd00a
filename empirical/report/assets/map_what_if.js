// What would go, and what it would cost: the cheapest units of every group, by numbers in the page.

class WhatIf {
  constructor(root, channels, plan, on) {
    this.channels = channels;
    this.root = root;
    this.on = on;
    this.plan = plan;
    this.groups = plan.groups.map((group) => ({
      ...group,
      order: new Uint16Array(bytesOf(group.order).buffer),
      loss: floatsOf(group.loss), // summed up to each unit, in the order of removal
      layers: group.layers.map((layer) => ({
        start: channels.layers.find((own) => own.name === layer.name)?.start,
        index: layer.index,
      })).filter((layer) => layer.start !== undefined),
    }));
    this.gone = this.groups.map(() => 0);
    const ranked = [];
    this.groups.forEach((group, g) => {
      for (let k = 0; k < group.units - group.least; k += 1) ranked.push([group.loss[k], g]);
    });
    ranked.sort((a, b) => a[0] - b[0] || b[1] - a[1]);
    this.queue = ranked.map(([, g]) => g);
    this.total = this.macs(this.gone);
    this.build();
    this.tell();
  }

  build() {
    this.all = this.root.querySelector(".cm-all");
    this.all.max = this.queue.length;
    this.all.addEventListener("input", () => {
      this.gone.fill(0);
      for (const g of this.queue.slice(0, Number(this.all.value))) this.gone[g] += 1;
      this.tell();
    });
    const body = this.root.querySelector("tbody");
    this.rows = this.groups.map((group, g) => {
      const row = element(body, "tr");
      element(row, "th", group.name).scope = "row";
      const slider = element(element(row, "td"), "input");
      slider.type = "range";
      slider.min = 0;
      slider.max = group.units - group.least;
      slider.setAttribute("aria-label", `channels of ${group.name} that go`);
      slider.addEventListener("input", () => { this.gone[g] = Number(slider.value); this.tell(); });
      return { slider, gone: element(row, "td"), loss: element(row, "td") };
    });
    for (const [name, why] of Object.entries(this.plan.whole)) {
      const row = element(body, "tr", undefined, "cm-soft");
      element(row, "th", name).scope = "row";
      element(row, "td", `stays whole: ${why}`).colSpan = 3;
    }
  }

  // Multiply-accumulates of an image with so many units gone of each group.
  macs(gone) {
    const { layers, rest } = this.plan.macs;
    const kept = (side) => side.reduce(
      (sum, [g, width]) => sum + width * (g < 0 ? 1 : this.groups[g].units - gone[g]), 0);
    return rest + Math.round(layers.reduce(
      (sum, layer) => sum + layer.cost * kept(layer.inputs) * kept(layer.outputs), 0));
  }

  // What a forecast gives for a damage: [divergence, its ends, agreement]; null where it gives nothing.
  measured(damage) {
    const { law } = this.plan;
    if (!law || damage > law[law.length - 1][0]) return null;
    const scale = Math.min(1, damage / law[0][0]);
    const at = Math.log(Math.max(damage, law[0][0]));
    const next = Math.max(1, law.findIndex((row) => Math.log(row[0]) >= at));
    const [a, b] = law.length > 1 ? [law[next - 1], law[next]] : [law[0], law[0]];
    const width = Math.log(b[0]) - Math.log(a[0]);
    const share = width > 0 ? (at - Math.log(a[0])) / width : 0;
    const [kl, low, high, same] = [1, 2, 3, 4].map((k) => a[k] + share * (b[k] - a[k]));
    return [scale * kl, scale * low, scale * high, 1 - scale * (1 - same)];
  }

  loss(g) { return this.gone[g] ? this.groups[g].loss[this.gone[g] - 1] : 0; }

  tell() {
    let units = 0;
    let loss = 0;
    this.groups.forEach((group, g) => {
      units += this.gone[g];
      loss += this.loss(g);
      const row = this.rows[g];
      row.slider.value = this.gone[g];
      row.gone.textContent = `${this.gone[g]} of ${group.units}`;
      row.loss.textContent = shown(this.loss(g), "nats");
    });
    const macs = this.macs(this.gone);
    const law = units ? this.measured(loss) : null;
    this.outcome = { units, loss, macs, share: macs / this.total, law };
    this.root.querySelector(".cm-outcome").textContent = `${grouped(units)} channels go; `
      + `${grouped(macs)} multiply-accumulates are left (${(100 * macs / this.total).toFixed(1)} %); `
      + (law
        ? `the prediction is foretold to diverge by ${shown(law[0], "nats")} nats [${shown(law[1], "nats")}, `
          + `${shown(law[2], "nats")}] and to agree on ${shown(law[3], "share")} of images.`
        : `the prediction is foretold to lose ${shown(loss, "nats")} nats, to second order.`);
    this.all.setAttribute("aria-valuetext", this.root.querySelector(".cm-outcome").textContent);
    this.on(this.going());
  }

  // One byte per channel: whether it goes.
  going() {
    const goes = new Uint8Array(this.channels.count);
    this.groups.forEach((group, g) => {
      for (const unit of group.order.subarray(0, this.gone[g])) {
        for (const layer of group.layers) {
          for (const c of layer.index ? layer.index[unit] : [unit]) goes[layer.start + c] = 1;
        }
      }
    });
    return goes;
  }
}
