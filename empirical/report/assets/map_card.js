// The card of one channel, and the short words beside the pointer.

function element(parent, kind, text, name) {
  const node = document.createElement(kind);
  if (text !== undefined) node.textContent = text;
  if (name) node.className = name;
  parent.append(node);
  return node;
}

const bracketed = (ends, unit) => (ends ? ` [${shown(ends[0], unit)}, ${shown(ends[1], unit)}]` : "");

// A value with its interval, or that it is not told from the bottom of its range.
function spoken(channels, column, i) {
  const value = column.values[i];
  if (!Number.isFinite(value)) return "no value";
  const text = `${column.way.length > 1 ? cellText(column, i) : shown(value, column.unit)}${column.unit === "nats" ? " nats" : ""}`;
  const ends = bracketed(channels.interval(column, i), column.unit);
  return `${text}${ends}${column.doubt[i] ? ", not resolved" : ""}`;
}

// One sentence for the pointer and for those who listen.
function summary(channels, i, sides) {
  const parts = sides.map((column) => `${column.label} ${spoken(channels, column, i)}`);
  return `${channels.name(i)}: ${parts.join("; ")}`;
}

// While no channel is pointed at: those with the largest and the smallest values of a quantity.
function extremes(card, channels, column, order, pick) {
  const known = order.filter((i) => Number.isFinite(column.values[i]))
    .sort((a, b) => column.values[b] - column.values[a]);
  const few = Math.min(5, Math.floor(known.length / 2));
  if (!few) return;
  for (const [title, chosen] of [["Largest", known.slice(0, few)], ["Smallest", known.slice(-few).reverse()]]) {
    element(card, "h4", `${title} ${column.label}`);
    const list = element(card, "ol", undefined, "cm-peers");
    for (const i of chosen) {
      const item = element(list, "li");
      const button = element(item, "button", channels.name(i));
      button.type = "button";
      button.addEventListener("click", () => pick(i));
      element(item, "span", `: ${cellText(column, i)}${["nats", "points"].includes(column.unit) ? ` ${column.unit}` : ""}`);
    }
  }
}

function fillCard(card, channels, i, { goes, pick, side, order }) {
  card.replaceChildren();
  if (i < 0) {
    element(card, "p", "Point at a channel, or walk with the arrow keys. A click or Enter holds it here.", "cm-soft");
    extremes(card, channels, side, order, pick);
    return;
  }
  element(card, "h3", channels.name(i));
  const kinds = channels.special_kinds(i);
  for (const kind of kinds) element(card, "p", `${kind.name}: ${kind.why}.`, "cm-kind");
  if (channels.moments) { changes(card, channels, i); return; }
  if (goes) element(card, "p", "It goes, at the present setting below.", "cm-kind");
  const found = (names) => names.map((name) => channels.byName.get(name));
  const damage = found(["damage_alone", "damage_with_peers", "recovered"]);
  if (damage[0]) element(card, "p", cost(channels, i, damage));
  const measured = found(["measured_damage", "measured_damage_with_peers"]);
  if (measured[0] && Number.isFinite(measured[0].values[i])) element(card, "p", lesioned(channels, i, measured));
  const peers = channels.peers(i);
  if (peers.length) {
    element(card, "h4", "Peers that predict it");
    const list = element(card, "ol", undefined, "cm-peers");
    for (const peer of peers) {
      const item = element(list, "li");
      const button = element(item, "button", channels.name(peer.index));
      button.type = "button";
      button.addEventListener("click", () => pick(peer.index));
      element(item, "span", ` × ${Number(peer.weight.toPrecision(3))}, adds ${shown(peer.gain, "share")}`);
    }
  } else if (channels.hull && !kinds.some((kind) => kind.name === "dead")) {
    element(card, "p", "No peer predicts anything of it.");
  }
  const table = element(card, "table");
  const body = element(table, "tbody");
  for (const column of channels.columns) {
    const row = element(body, "tr", undefined, column.doubt[i] ? "cm-doubt" : "");
    const head = element(row, "th", column.label);
    head.scope = "row";
    head.title = column.what;
    element(row, "td", cellText(column, i));
    const ends = channels.interval(column, i);
    element(row, "td", ends ? bracketed(ends, column.unit).trim() : "");
    const rank = channels.rank(column, i);
    element(row, "td", rank ? `${rank.rank} of ${rank.of}` : "");
  }
  element(card, "p", "Value, 95 % interval, rank in its layer from the largest. In brackets: not told from the bottom of its range.", "cm-soft");
}

// What lesions measured, beside what was foretold.
function lesioned(channels, i, [alone, peers]) {
  const withPeers = peers && Number.isFinite(peers.values[i]) ? `; replaced by its peers, ${spoken(channels, peers, i)}` : "";
  return `Measured by lesions: held at its mean, ${spoken(channels, alone, i)}${withPeers}.`;
}

// Every quantity before and after, and its change.
function changes(card, channels, i) {
  const table = element(card, "table", undefined, "cm-changes");
  const head = element(element(table, "thead"), "tr");
  for (const title of ["", channels.moments[0], channels.moments.at(-1), "change"]) element(head, "th", title).scope = "col";
  const body = element(table, "tbody");
  for (const column of channels.columns) {
    const change = channels.changeOf(column);
    if (column.name.endsWith("_change")) continue;
    const row = element(body, "tr", undefined, change && change.doubt[i] ? "cm-doubt" : "");
    const name = element(row, "th", column.label);
    name.scope = "row";
    name.title = column.what;
    element(row, "td", change ? shown(column.way[0][i], column.unit) : "");
    element(row, "td", shown(column.values[i], column.unit));
    if (!change) { element(row, "td"); continue; }
    const cell = element(row, "td", `${cellText(change, i)}${change.unit === "points" ? " points" : ""}`);
    const ends = channels.interval(change, i);
    if (ends) element(cell, "span", bracketed(ends, change.unit).trim());
  }
  element(card, "p", "Change with its 95 % interval. In brackets: no change beyond its errors, at a false discovery rate of 5 % in its layer.", "cm-soft");
}

function cost(channels, i, [alone, peers, recovered]) {
  if (!Number.isFinite(alone.values[i])) return "What is lost without it is not known.";
  if (alone.doubt[i]) return `What is lost without it is not resolved: ${spoken(channels, alone, i)}.`;
  const back = Number.isFinite(recovered.values[i]) && !recovered.doubt[i]
    ? `; they win back ${shown(recovered.values[i], "share")}` : "";
  return `Foretold: held at its mean, the prediction loses ${spoken(channels, alone, i)}; `
    + `replaced by its peers, ${spoken(channels, peers, i)}${back}.`;
}
