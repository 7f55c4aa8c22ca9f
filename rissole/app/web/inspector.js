// The panel beside the picture: one block, whom it listened to, what it cost, how it came about.
window.rissole.inspector = (element, { texts }, look) => {
  const { fill, make, thumb, put, write, hide, maps, carry } = window.rissole;
  const MOMENTS = 8;
  const part = (name) => element.querySelector(name);
  const list = part(".rs-tiles");
  let large = null; // the neighbour a visitor chose to see large; else the one listened to most
  let stripKey = "";

  // The neighbours that the block in focus sees, with its shares: null before it is painted.
  const listened = () => {
    const [row, col] = look.focus();
    const message = look.shown();
    const plain = (ids) => ids.map((id) => ({ n: null, id, share: null }));
    if (!message) return plain(look.own(row, col) || look.chosen());
    const shares = maps.attention(message).shares(row, col);
    return shares.length ? shares : plain(message.own[`${row},${col}`] || message.used);
  };

  const favourite = (heard) => {
    const chosen = heard.find(({ id }) => id === large);
    return chosen || heard.reduce((best, one) => (one.share > (best?.share ?? -1) ? one : best), heard[0]);
  };

  // Shows block (row, col) of a picture as the background of a square.
  const crop = (node, id) => {
    const n = look.side();
    const [row, col] = look.focus();
    const place = (at) => (n > 1 ? `${(100 * at) / (n - 1)}%` : "0%");
    const key = [look.source(), id, n, row, col].join();
    if (node.dataset.crop === key) return;
    node.dataset.crop = key;
    node.style.backgroundImage = `url("${thumb(look.source(), id)}")`;
    node.style.backgroundSize = `${n * 100}%`;
    node.style.backgroundPosition = `${place(col)} ${place(row)}`;
  };

  // ---- the neighbours' blocks ------------------------------------------------------------------

  const tile = ({ id }) => {
    const node = make("li", "rs-tile");
    const button = make("button", "rs-tile-pick", { type: "button", "data-id": id, "data-src": thumb(look.source(), id) });
    const chip = make("span", "rs-chip", { "aria-hidden": "true" });
    const bar = make("span", "rs-weight", { "aria-hidden": "true" });
    bar.append(make("span"));
    button.append(make("span", "rs-crop"), chip, bar, make("span", "rs-percent"));
    button.addEventListener("click", () => {
      large = large === id ? null : id;
      look.changed();
    });
    node.append(button);
    return node;
  };

  const buildTiles = (heard) => {
    const ids = [look.source(), ...heard.map(({ id }) => id)].join();
    if (list.dataset.ids === ids) return;
    list.dataset.ids = ids;
    list.classList.toggle("rs-many", heard.length > 8);
    list.replaceChildren(...heard.map(tile));
  };

  const renderTile = (node, { n, id, share }, most) => {
    crop(node.querySelector(".rs-crop"), id);
    const percent = share === null ? null : Math.round(100 * share);
    node.classList.toggle("rs-most", share !== null && share === most);
    const bar = node.querySelector(".rs-weight span");
    bar.style.transform = `scaleX(${share === null ? 0 : share / most})`;
    bar.style.background = n === null ? "" : maps.colour(n);
    const chip = node.querySelector(".rs-chip");
    hide(chip, n === null || look.view() !== "won");
    write(chip, n === null ? "" : n + 1);
    if (!chip.hidden) Object.assign(chip.style, { background: maps.colour(n), color: maps.ink(n) });
    write(node.querySelector(".rs-percent"), percent === null ? "" : `${percent} %`);
    const button = node.querySelector(".rs-tile-pick");
    put(button, "aria-pressed", large === id);
    const label = fill(percent === null ? texts.tileIdle : texts.tile, { item: id, percent });
    put(button, "aria-label", look.view() === "won" && n !== null ? `${n + 1}: ${label}` : label);
  };

  const renderTiles = (heard) => {
    buildTiles(heard);
    const most = Math.max(...heard.map(({ share }) => share ?? 0));
    heard.forEach((one, index) => renderTile(list.children[index], one, most));
  };

  // ---- the pair: the block, and the same block of one neighbour --------------------------------

  const renderPair = (heard) => {
    const [row, col] = look.focus();
    write(part(".rs-focus-name"), look.side() === 1
      ? texts.focusWhole : fill(texts.focus, { row: row + 1, col: col + 1 }));
    const other = favourite(heard);
    hide(part(".rs-other"), !other);
    if (!other) return;
    const box = part(".rs-other-crop");
    crop(box, other.id);
    const percent = other.share === null ? null : Math.round(100 * other.share);
    const text = fill(percent === null ? texts.tileIdle : texts.tile, { item: other.id, percent });
    put(box, "aria-label", text);
    write(part(".rs-other figcaption"), text);
  };

  const cost = () => {
    const message = look.shown();
    const [row, col] = look.focus();
    const spent = message?.spent?.[row * message.grid + col];
    if (!spent) return "";
    const [calls, ms, shared] = spent;
    const values = { calls, shared, ms: ms.toLocaleString("en") };
    return fill(shared > 1 ? texts.spentTogether : texts.spent, values);
  };

  // ---- how the block came about ----------------------------------------------------------------

  const renderStrip = () => {
    const message = look.message();
    const box = part(".rs-moments");
    const [row, col] = look.focus();
    const at = message ? row * message.grid + col : 0;
    const places = message && !look.live() ? look.film.moments(message.run, at, MOMENTS) : [];
    const why = message && !look.live() && places.length < 2 ? without(message, row, col) : "";
    hide(box, places.length < 2 && !why);
    const key = box.hidden ? "" : [message.run, at, places.length, look.view(), why].join();
    if (key !== stripKey && !box.hidden) drawStrip(why ? [] : places, row, col, message);
    stripKey = key;
    if (why) write(part(".rs-moments .rs-hint"), why);
    for (const button of box.querySelectorAll("button")) {
      button.setAttribute("aria-pressed", String(Number(button.dataset.place) === look.scrubbed()));
    }
  };

  // Why there is no film of a finished block.
  const without = (message, row, col) => {
    if (message.state !== "done") return "";
    const kept = message.repaint && !message.repaint.some(([r, c]) => r === row && c === col);
    if (kept) return message.before && look.film.reel(message.before).length ? texts.stripKept : texts.stripKeptOnly;
    return look.film.reel(message.run).length > 1 ? "" : texts.stripNone;
  };

  const drawStrip = (places, row, col, message) => {
    const reel = look.film.reel(message.run);
    part(".rs-moments .rs-hint").textContent = texts.strip;
    part(".rs-moments ol").replaceChildren(...places.map((place) => {
      const { step, total_steps: steps, frame, grid } = reel[place];
      const item = make("li", "");
      const button = make("button", "", { type: "button", "data-place": place });
      button.setAttribute("aria-label", fill(texts.moment, { step, steps }));
      const small = make("canvas", "", { width: 48, height: 48 });
      look.film.image(frame).then((image) => {
        if (!image) return;
        const size = image.width / grid;
        small.getContext("2d").drawImage(image, col * size, row * size, size, size, 0, 0, 48, 48);
      });
      button.append(small);
      button.addEventListener("click", () => look.scrub(place));
      item.append(button);
      return item;
    }));
  };

  const render = () => {
    const heard = listened();
    renderTiles(heard);
    renderPair(heard);
    renderStrip();
    write(part(".rs-focus-why"), cost() || look.why());
    write(part(".rs-listens"), look.shown() ? texts.listens : texts.sees);
  };

  carry(list, ".rs-tile-pick");
  return { render, large: () => large };
};
