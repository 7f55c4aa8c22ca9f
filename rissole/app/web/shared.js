// Helpers of all components. Loaded once, before any of them.
window.rissole = (() => {
  "use strict";

  // "{name}" in a text becomes values.name; what comes out is only ever used as textContent.
  const fill = (text, values = {}) =>
    text.replace(/\{(\w+)\}/g, (whole, name) => (name in values ? String(values[name]) : whole));

  const make = (tag, className, attributes = {}) => {
    const node = document.createElement(tag);
    if (className) node.className = className;
    for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, value);
    return node;
  };

  // Thumbnails have an address of their own, relative to the page, and never change.
  const thumb = (source, item) => `thumbs/${encodeURIComponent(source)}/${Number(item)}.webp`;

  // Only what changes is written: 15 times a second, all else costs more than the picture.
  const put = (node, name, value) => {
    if (node.getAttribute(name) !== String(value)) node.setAttribute(name, value);
  };
  const write = (node, text) => {
    if (node.textContent !== String(text)) node.textContent = text;
  };
  const hide = (node, hidden) => {
    if (node.hidden !== hidden) node.hidden = hidden;
  };

  // A menu for two or more [value, text]; without a choice there is no menu.
  const fillMenu = (menu, options, chosen) => {
    const select = menu.querySelector("select");
    menu.hidden = options.length < 2;
    const key = JSON.stringify(options);
    if (select.dataset.key !== key) {
      select.dataset.key = key;
      select.replaceChildren(...options.map(([value, text]) => {
        const option = make("option", "", { value });
        option.textContent = text;
        return option;
      }));
    }
    select.value = chosen;
  };

  const bring = (node) => {
    const still = matchMedia("(prefers-reduced-motion: reduce)").matches;
    node?.scrollIntoView({ block: "center", behavior: still ? "instant" : "smooth" });
  };

  const whole = (value, low, high) => Math.min(high, Math.max(low, Math.trunc(Number(value) || 0)));

  // Where a key leads in a grid of `count` cells, `columns` wide; null for other keys.
  const arrow = (key, index, columns, count) => {
    const moves = {
      ArrowLeft: index - 1, ArrowRight: index + 1,
      ArrowUp: index - columns, ArrowDown: index + columns,
      Home: 0, End: count - 1,
    };
    if (!(key in moves)) return null;
    return moves[key] < 0 || moves[key] >= count ? index : moves[key];
  };

  // The components tell each other what changed without a trip to the server.
  const tell = (name, detail) => document.dispatchEvent(new CustomEvent(`rissole:${name}`, { detail }));
  const hear = (name, listener) =>
    document.addEventListener(`rissole:${name}`, (event) => listener(event.detail));

  const page = document.documentElement;
  const phase = (name) => {
    if (page.dataset.rissole === name) return;
    page.dataset.rissole = name;
    tell("phase", name);
  };
  const live = () => ["starting", "running"].includes(page.dataset.rissole);

  const pause = (ms) => new Promise((done) => { setTimeout(done, ms); });
  const press = (id) => {
    const button = document.getElementById(id);
    if (button && !button.disabled) button.click();
  };

  // A file that the server wrote for this page: save it under its own name.
  const fetchFile = (path) => {
    if (typeof path !== "string") return;
    const name = path.split(/[\\/]/).pop();
    make("a", "", { href: `gradio_api/file=${encodeURI(path)}`, download: name }).click();
  };

  // ---- carrying pictures with the mouse --------------------------------------------------------

  // Anything in `container` that matches `selector` and has data-id can be carried onto what has
  // data-drop. Fingers scroll instead: for them, and for keys, the same works by tapping.
  const carry = (container, selector) => {
    container.addEventListener("dragstart", (event) => event.preventDefault());
    container.addEventListener("pointerdown", (down) => {
      const from = down.target.closest(selector);
      if (!from || down.button !== 0 || down.pointerType === "touch") return;
      const id = Number(from.dataset.id);
      let ghost = null;
      let over = null;
      const move = (event) => {
        if (!ghost && Math.hypot(event.clientX - down.clientX, event.clientY - down.clientY) < 7) return;
        ghost ??= lift(from);
        ghost.style.transform = `translate(${event.clientX - 28}px, ${event.clientY - 28}px)`;
        const target = document.elementFromPoint(event.clientX, event.clientY)?.closest("[data-drop]");
        if (target === over) return;
        over?.classList.remove("rs-over");
        over = target || null;
        over?.classList.add("rs-over");
      };
      const end = (event) => {
        document.removeEventListener("pointermove", move);
        for (const name of ["pointerup", "pointercancel"]) document.removeEventListener(name, end);
        if (!ghost) return;
        ghost.remove();
        page.classList.remove("rs-carrying");
        over?.classList.remove("rs-over");
        swallowClick();
        if (over && event.type === "pointerup") tell("drop", { id, target: over, from });
      };
      document.addEventListener("pointermove", move);
      for (const name of ["pointerup", "pointercancel"]) document.addEventListener(name, end);
    });
  };

  const lift = (from) => {
    const ghost = make("img", "rs-ghost", { alt: "" });
    ghost.src = from.dataset.src || from.querySelector("img").src;
    document.body.append(ghost);
    page.classList.add("rs-carrying");
    return ghost;
  };

  // a drag that ends on its own start would count as a click, too
  const swallowClick = () => {
    const stop = (event) => { event.stopPropagation(); event.preventDefault(); };
    window.addEventListener("click", stop, { capture: true, once: true });
    setTimeout(() => window.removeEventListener("click", stop, { capture: true }), 0);
  };

  // ---- keys ------------------------------------------------------------------------------------

  const typing = (target) =>
    target.isContentEditable || target.matches?.("textarea, select, input:not([type=range], [type=checkbox], [type=radio])");

  const letters = { r: () => tell("repaint"), z: () => tell("undo"), "?": () => toggleKeys() };

  const toggleKeys = () => {
    const dialog = document.getElementById("rs-keylist");
    if (dialog?.open) dialog.close();
    else dialog?.showModal();
  };

  document.addEventListener("keydown", (event) => {
    if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) {
      if (live()) return;
      event.preventDefault();
      press("rs-generate");
    } else if (event.key === "Escape") {
      if (live()) press("rs-stop");
      else tell("escape");
    } else if (!event.ctrlKey && !event.metaKey && !event.altKey && !typing(event.target)) {
      letters[event.key.toLowerCase()]?.();
    }
  });

  document.addEventListener("click", (event) => {
    if (event.target.closest("[data-keys]")) toggleKeys();
    // a click beside the list closes it
    if (event.target.id === "rs-keylist") event.target.close();
  });

  // ---- Generate and Stop, in turn --------------------------------------------------------------

  // The library cancels only what the server has accepted, and until a cancelled run is over it
  // passes over the next one. So Stop waits for the first, and Generate for the second.
  const BEGIN = "queue/join";
  const underWay = { [BEGIN]: 0, "/cancel": 0, "/reset": 0 };
  const send = window.fetch;
  let begun = { at: 0, sent: true }; // the run, and what the server was told of it
  let ended = { at: 0, sent: true };
  const unsent = ({ at, sent }) => !sent && Date.now() - at < 500;
  window.fetch = async (...request) => {
    const { pathname } = new URL(request[0]?.url ?? request[0], location.href);
    const kind = Object.keys(underWay).find((name) => pathname.endsWith(name));
    if (!kind) return send(...request);
    underWay[kind] += 1;
    (kind === BEGIN ? begun : ended).sent = true;
    try { return await send(...request); } finally { underWay[kind] -= 1; }
  };

  const ending = () => Boolean(underWay["/cancel"] || underWay["/reset"] || unsent(ended));
  const ready = {
    "rs-stop": () => !underWay[BEGIN] && !unsent(begun),
    "rs-generate": () => !ending(),
  };
  let waiting = null; // the button that is pressed as soon as it can do what it says
  const pressLater = async (button) => {
    if (waiting) return;
    waiting = button;
    tell("waiting", button.id);
    while (!ready[button.id]()) await pause(30);
    await pause(30); // the library, too, has heard of it
    waiting = null;
    button.click();
  };

  // Stop comes up where Generate was: the second click of a double click, or a key that is held
  // down, is not meant for it.
  const slipped = (event) => event.isTrusted && event.detail !== 1 && Date.now() - begun.at < 500;

  window.addEventListener("click", (event) => {
    const button = event.target.closest?.("#rs-generate, #rs-stop");
    if (!button) return;
    const stop = button.id === "rs-stop";
    const slip = stop && slipped(event);
    if (!slip && !waiting && ready[button.id]()) {
      if (stop) ended = { at: Date.now(), sent: false };
      return;
    }
    event.stopImmediatePropagation();
    event.preventDefault();
    if (!slip) pressLater(button);
  }, { capture: true });

  hear("phase", (name) => {
    if (name === "starting") begun = { at: Date.now(), sent: false };
    const [from, to] = live() ? ["rs-generate", "rs-stop"] : ["rs-stop", "rs-generate"];
    if (document.activeElement?.id === from) document.getElementById(to).focus({ preventScroll: true });
  });

  // ---- is the server there? --------------------------------------------------------------------

  let away = false;
  const look = async () => {
    if (document.hidden && !away) return;
    const answer = await fetch("here", { cache: "no-store" }).catch(() => null);
    const gone = !answer?.ok;
    if (gone !== away) tell("away", gone);
    away = gone;
    page.toggleAttribute("data-away", away);
    const banner = document.getElementById("rs-offline");
    if (banner) banner.hidden = !away;
  };
  // often enough to notice, seldom enough to cost nothing
  const watchServer = async () => {
    await look();
    setTimeout(watchServer, away ? 2000 : 15000);
  };
  setTimeout(watchServer, 15000);
  for (const name of ["online", "offline", "pageshow"]) window.addEventListener(name, look);
  hear("failed", look);

  // Generate, or Stop first where something is being painted.
  const go = async () => {
    if (live()) press("rs-stop");
    while (live()) await pause(30);
    requestAnimationFrame(() => setTimeout(() => press("rs-generate"), 60));
  };

  return { go, fetchFile, fill, make, thumb, put, write, hide, fillMenu, bring, whole, arrow, tell, hear, phase, live, ending, press, carry };
})();
