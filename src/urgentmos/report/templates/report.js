"use strict";
// Sorting, players and charts of the pages. Names come from users: they reach the page as text nodes and attributes only.
(() => {
  const data = JSON.parse(document.getElementById("data").textContent);
  const dark = window.matchMedia("(prefers-color-scheme: dark)");

  // ---- small things

  /** An element with attributes, listeners (on...) and children, which are elements or text. */
  function make(name, attributes = {}, ...children) {
    const element = document.createElement(name);
    for (const [key, value] of Object.entries(attributes)) {
      if (key.startsWith("on")) element.addEventListener(key.slice(2), value);
      else if (value === true) element.setAttribute(key, "");
      else if (value !== false && value !== null && value !== undefined) element.setAttribute(key, value);
    }
    element.append(...children.filter((child) => child !== null));
    return element;
  }

  const number = (x, digits = 2) => (x === null || x === undefined ? "-" : x.toFixed(digits));
  const clock = (t) => `${Math.floor(t / 60)}:${(t % 60).toFixed(1).padStart(4, "0")}`;

  // ---- tables

  function sortTable(button) {
    const head = button.closest("th");
    const table = head.closest("table");
    const column = head.cellIndex;
    const text = button.dataset.sort === "text";
    const up = head.getAttribute("aria-sort") === "none" ? text : head.getAttribute("aria-sort") === "descending";
    for (const other of table.querySelectorAll("th[aria-sort]")) other.setAttribute("aria-sort", "none");
    head.setAttribute("aria-sort", up ? "ascending" : "descending");
    const key = (row) => {
      const cell = row.cells[column];
      if (text) return cell.textContent.trim();
      const value = cell.dataset.value;
      return value === undefined || value === "" || Number.isNaN(Number(value)) ? null : Number(value);
    };
    const body = table.tBodies[0];
    const rows = [...body.rows].map((row) => [key(row), row]);
    rows.sort(([a], [b]) => {
      if (a === null || b === null || a === "" || b === "") return (a === null || a === "") - (b === null || b === ""); // missing comes last
      const order = text ? a.localeCompare(b, undefined, { numeric: true }) : a - b;
      return up ? order : -order;
    });
    body.append(...rows.map(([, row]) => row));
  }

  for (const button of document.querySelectorAll("table.sortable th button"))
    button.addEventListener("click", () => sortTable(button));

  // ---- charts

  function colours() {
    const style = getComputedStyle(document.documentElement);
    const of = (name) => style.getPropertyValue(`--${name}`).trim();
    return {
      main: of("main"), quiet: of("mark"), ink: of("ink"), good: of("good"), bad: of("bad"), grid: of("grid"), faint: of("quiet"), line: of("line"),
      diverging: [of("heat-low"), of("heat-middle"), of("heat-high")],
      category: dark.matches
        ? ["#7ab8ff", "#f2a65a", "#6fcf97", "#e68ab8", "#c3b1ff", "#e6d36a", "#79d5d8", "#ff9d8a"]
        : ["#0b5cad", "#b3560b", "#1d7a5c", "#a8326f", "#6346b8", "#7d6608", "#0f6d78", "#b8452a"],
    };
  }

  function config(c) {
    const text = { labelColor: c.ink, titleColor: c.ink, labelFontSize: 12, titleFontSize: 12, titleFontWeight: 600 };
    return {
      background: null,
      font: "system-ui, 'Segoe UI', Roboto, 'Helvetica Neue', Arial, sans-serif",
      view: { stroke: null },
      axis: { ...text, gridColor: c.grid, domainColor: c.line, tickColor: c.line },
      legend: { ...text },
      title: { color: c.ink },
      range: { diverging: c.diverging, category: c.category },
    };
  }

  /** The specification with the colours of the theme in the places of their roles. */
  function painted(spec, c) {
    return JSON.parse(JSON.stringify(spec), (_, value) =>
      typeof value === "string" && value.startsWith("@") && value.slice(1) in c ? c[value.slice(1)] : value);
  }

  const drawn = new Map(); // element -> { spec, view }

  async function draw(element, spec, ready) {
    const c = colours();
    const options = { actions: false, ast: true, renderer: "svg", mode: "vega-lite", config: config(c), tooltip: { theme: "custom" } };
    drawn.get(element)?.result?.finalize();
    const entry = { spec, ready };
    drawn.set(element, entry);
    const result = await window.vegaEmbed(element, { autosize: { type: "fit-x", contains: "padding" }, ...painted(spec, c) }, options);
    if (drawn.get(element) !== entry) return result.finalize(); // something newer has been asked for
    entry.result = result;
    element.dataset.drawn = "yes";
    if (ready) ready(result.view);
  }

  const seen = new IntersectionObserver((entries) => {
    for (const entry of entries) {
      if (!entry.isIntersecting) continue;
      seen.unobserve(entry.target);
      draw(entry.target, data.charts[entry.target.dataset.chart]);
    }
  }, { rootMargin: "300px" });
  for (const element of document.querySelectorAll("[data-chart]")) seen.observe(element);

  dark.addEventListener("change", () => {
    for (const [element, { spec, ready }] of [...drawn]) draw(element, spec, ready);
  });
  addEventListener("beforeprint", () => {
    for (const element of document.querySelectorAll("[data-chart]:not([data-drawn])")) draw(element, data.charts[element.dataset.chart]);
  });

  // ---- one player at a time

  let playing = null; // the <audio> that sounds

  function stop() {
    if (playing) playing.pause();
    playing = null;
  }

  function start(audio) {
    if (playing && playing !== audio) playing.pause();
    playing = audio;
    audio.play().catch((error) => {
      if (error.name !== "AbortError") document.dispatchEvent(new CustomEvent("unplayable", { detail: String(error) }));
    });
  }

  for (const button of document.querySelectorAll("button.play")) {
    const audio = new Audio();
    audio.preload = "none";
    const show = () => {
      button.setAttribute("aria-pressed", String(!audio.paused));
      button.textContent = audio.paused ? "Play" : "Pause";
    };
    for (const event of ["play", "pause", "ended"]) audio.addEventListener(event, show);
    audio.addEventListener("error", () => (button.textContent = "Cannot be played here"));
    button.addEventListener("click", () => {
      if (!audio.src) audio.src = button.dataset.sound;
      if (audio.paused) start(audio);
      else audio.pause();
    });
  }

  /** Play, pause and place for whichever <audio> `use` names; the place is kept from one to the next. */
  function transport(label) {
    let audio = null;
    const button = make("button", { type: "button", class: "toggle", disabled: true, "aria-pressed": "false" }, "Play");
    const place = make("input", { type: "range", min: 0, max: 1, step: 0.01, value: 0, disabled: true, "aria-label": `Place in ${label}, in seconds` });
    const time = make("span", { class: "quiet" }, "");
    const own = { button, place, time, onplace: () => {}, get audio() { return audio; } };
    const show = () => {
      const length = audio && Number.isFinite(audio.duration) ? audio.duration : 0;
      place.max = length || 1;
      place.value = audio ? audio.currentTime : 0;
      time.textContent = audio ? `${clock(audio.currentTime)} of ${clock(length)}` : "";
      const on = audio !== null && !audio.paused;
      button.textContent = on ? "Pause" : "Play";
      button.setAttribute("aria-pressed", String(on));
      own.onplace(audio ? audio.currentTime : 0);
    };
    const step = () => {
      show();
      if (audio && !audio.paused) requestAnimationFrame(step);
    };
    const failed = () => (time.textContent = "this browser cannot play it");
    own.use = (next) => {
      const before = audio;
      const on = before !== null && !before.paused;
      const at = before ? before.currentTime : 0;
      if (before && before !== next) before.pause();
      audio = next;
      button.disabled = place.disabled = !next;
      if (next && next !== before) {
        for (const event of ["loadedmetadata", "seeked", "pause", "ended"]) next.addEventListener(event, show);
        next.addEventListener("play", step);
        next.addEventListener("error", failed);
        own.seek(at);
        if (on) start(next);
      }
      show();
    };
    own.seek = (t) => {
      if (!audio) return;
      const go = () => { audio.currentTime = Math.max(0, Math.min(t, audio.duration || t)); };
      if (audio.readyState > 0) go();
      else audio.addEventListener("loadedmetadata", go, { once: true });
    };
    own.toggle = () => {
      if (!audio) return;
      if (audio.paused) start(audio);
      else audio.pause();
    };
    own.forget = () => { if (audio) audio.pause(); audio = null; show(); };
    button.addEventListener("click", own.toggle);
    place.addEventListener("input", () => own.seek(Number(place.value)));
    return own;
  }

  const inControl = (target) => target.closest("button, select, input, a, summary, textarea") !== null;

  // ---- a ranking's contents

  function deck(root, own) {
    const orders = {
      spread: "largest spread between systems first",
      disagreement: "least like the ranking first",
      listeners: "least like the listeners first",
      id: "by name",
    };
    const possible = Object.keys(orders).filter((key) => key === "id" || own.contents.some((item) => item[key] !== null));
    const player = transport("the clip");
    let shown = []; // contents, in the order that was chosen
    let at = 0;
    let sounds = []; // <audio> or null, per system
    let system = null;
    let before = null; // the system heard before: X goes back to it

    const order = make("select", { onchange: arrange }, ...possible.map((key) => make("option", { value: key }, orders[key])));
    const only = make("input", { type: "checkbox", onchange: arrange });
    only.checked = own.n_heard > 0 && own.n_heard < own.contents.length;
    const title = make("h3", { "aria-live": "polite" });
    const facts = make("p", { class: "quiet" });
    const body = make("tbody");
    const has = (key) => own.contents.some((item) => item[key]);
    const heads = ["", "system", ...(has("value") ? [own.judge] : []), "wins", ...(has("human") ? ["listeners"] : [])];
    const table = make("table", {},
      make("caption", { class: "hidden" }, "Systems on this content"),
      make("thead", {}, make("tr", {}, ...heads.map((text, k) => make("th", { scope: "col", class: k > 1 ? "number" : null }, text)))), body);
    const swap = make("button", { type: "button", onclick: back, disabled: true }, "Swap A/B");
    const box = make("div", { class: "deck", tabindex: 0, role: "group", "aria-label": "Contents to listen to", onkeydown: key },
      make("div", { class: "bar" },
        make("button", { type: "button", class: "previous", onclick: () => go(-1) }, "Previous"),
        make("button", { type: "button", class: "next", onclick: () => go(1) }, "Next"),
        make("label", {}, "Order", order),
        own.n_heard > 0 && own.n_heard < own.contents.length ? make("label", {}, only, `only the ${own.n_heard} of ${own.contents.length} with audio`) : null),
      title, facts,
      make("div", { class: "bar" }, player.button, swap, player.place, player.time),
      make("div", { class: "scroll" }, table),
      make("p", { class: "keys" }, "Keys, once you are in this box: ", make("kbd", {}, "←"), " ", make("kbd", {}, "→"), " content, ",
        make("kbd", {}, "↑"), " ", make("kbd", {}, "↓"), " system at the same position, ", make("kbd", {}, "x"), " back to the system before (A/B), ",
        make("kbd", {}, "space"), " play or pause."));
    if (own.audio === "embed") box.append(make("p", { class: "keys" }, "Embedded clips were coded as Opus at 56 kbit/s; differences finer than that are not in them."));
    root.replaceChildren(box);

    function arrange() {
      const by = order.value;
      shown = own.contents.filter((item) => !only.checked || item.sound);
      shown.sort((a, b) => by === "id" ? a.id.localeCompare(b.id, undefined, { numeric: true }) : (b[by] ?? -1) - (a[by] ?? -1));
      at = 0;
      show();
    }

    function go(step) {
      at = (at + step + shown.length) % shown.length;
      show();
    }

    function show() {
      const item = shown[at];
      player.forget();
      sounds = own.systems.map((_, k) => {
        if (!item.sound || !item.sound[k]) return null;
        const audio = new Audio();
        audio.preload = "auto";
        audio.src = item.sound[k];
        return audio;
      });
      before = null;
      title.textContent = `${item.id} (${at + 1} of ${shown.length})`;
      const told = [];
      if (item.spread !== null) told.push(`spread ${number(item.spread)}`);
      if (item.disagreement !== null) told.push(`orders ${(100 * item.disagreement).toFixed(0)} % of the pairs of systems against the ranking`);
      if (item.listeners !== null) told.push(`${(100 * item.listeners).toFixed(0)} % against the listeners`);
      facts.textContent = `${told.join("; ")} (n = ${own.systems.length} systems)`;
      body.replaceChildren(...own.systems.map((name, k) => {
        const cells = [];
        if (has("value")) cells.push(number(item.value?.[k]));
        cells.push(item.wins?.[k] === null || item.wins === undefined ? "-" : `${(100 * item.wins[k]).toFixed(0)} %`);
        if (has("human")) cells.push(number(item.human?.[k]));
        const why = item.why?.[k] ?? (item.sound ? "" : own.audio === "none" ? "" : "not among those with audio");
        const button = sounds[k]
          ? make("button", { type: "button", "aria-label": `Play ${name}`, "aria-pressed": "false", onclick: () => { choose(k); if (player.audio.paused) player.toggle(); } }, "Play")
          : make("span", { class: "quiet" }, why || "-");
        return make("tr", {}, make("td", {}, button), make("th", { scope: "row" }, name), ...cells.map((text) => make("td", { class: "number" }, text)));
      }));
      const wanted = system !== null && sounds[system] ? system : sounds.findIndex((audio) => audio);
      system = null;
      if (wanted >= 0) choose(wanted);
      else { player.use(null); mark(); }
    }

    function choose(k) {
      if (!sounds[k]) return;
      if (system !== null && system !== k) before = system;
      system = k;
      player.use(sounds[k]);
      mark();
    }

    function mark() {
      [...body.rows].forEach((row, k) => {
        row.classList.toggle("on", k === system);
        row.querySelector("button")?.setAttribute("aria-pressed", String(k === system));
      });
      swap.disabled = before === null;
      swap.textContent = before === null ? "Swap A/B" : `Back to ${own.systems[before]}`;
    }

    function back() { if (before !== null) choose(before); }

    function move(step) {
      const audible = sounds.map((audio, k) => (audio ? k : -1)).filter((k) => k >= 0);
      if (audible.length) choose(audible[(audible.indexOf(system) + step + audible.length) % audible.length]);
    }

    function key(event) {
      if (event.ctrlKey || event.metaKey || event.altKey) return;
      if (event.target.closest("select, input")) return;
      const does = { ArrowLeft: () => go(-1), ArrowRight: () => go(1), ArrowUp: () => move(-1), ArrowDown: () => move(1), x: back, X: back };
      if (event.key === " " && !inControl(event.target)) does[" "] = player.toggle;
      if (!does[event.key]) return;
      event.preventDefault();
      does[event.key]();
      if (!document.contains(event.target)) box.focus(); // its row has been made anew
    }

    arrange();
  }

  // ---- a clip in time

  function viewer(root, own) {
    const clips = own.clips;
    const player = transport("the clip");
    let at = 0;
    let metric = own.main;
    let seconds = 1;
    let frame = null; // { left, width } of the time axis in pixels

    const chooser = make("select", { onchange: () => show(Number(chooser.value)) },
      ...clips.map((clip, k) => make("option", { value: k }, clip.uid)));
    const title = make("h3", { "aria-live": "polite" });
    const facts = make("p", { class: "quiet" });
    const rows = make("tbody");
    const picture = make("div", { class: "chart", role: "img" });
    const line = make("div", { class: "chart", role: "img" });
    const head = make("div", { class: "head" });
    const time = make("div", { class: "time", tabindex: 0, role: "slider", "aria-label": "Place in the clip", "aria-valuemin": 0, onclick: point, onkeydown: key }, picture, line, head);
    const which = make("select", { onchange: () => { metric = which.value; trace(); } });
    const about = make("p", { class: "keys" });
    const several = clips.length > 1;
    root.replaceChildren(make("div", { class: "deck" },
      several ? make("div", { class: "bar" },
        make("button", { type: "button", class: "previous", onclick: () => show((at + clips.length - 1) % clips.length) }, "Previous"),
        make("button", { type: "button", class: "next", onclick: () => show((at + 1) % clips.length) }, "Next"),
        make("label", { class: "grow" }, "Clip", chooser)) : null,
      title, facts,
      make("div", { class: "bar" }, player.button, player.place, player.time),
      make("div", { class: "bar timelines" }, make("label", {}, "Timeline of", which)),
      time, about,
      make("div", { class: "scroll" }, make("table", {}, make("caption", { class: "hidden" }, "Metrics of this clip"),
        make("thead", {}, make("tr", {}, ...["metric", "value", "interval", "in its range", "better"].map((text, k) => make("th", { scope: "col", class: k === 1 ? "number" : null }, text)))), rows))));

    player.onplace = (t) => {
      const part = seconds ? Math.min(1, t / seconds) : 0;
      head.hidden = frame === null;
      if (frame) head.style.left = `${frame.left + part * frame.width}px`;
      time.setAttribute("aria-valuenow", t.toFixed(1));
      time.setAttribute("aria-valuetext", `${t.toFixed(1)} of ${seconds.toFixed(1)} seconds`);
    };

    function show(k) {
      at = k;
      const clip = clips[k];
      seconds = clip.seconds ?? 1;
      chooser.value = k;
      title.textContent = clip.uid;
      const told = [clip.path, clip.system && `system ${clip.system}`, clip.content && `content ${clip.content}`, clip.seconds && `${number(clip.seconds)} s`,
        clip.error, ...clip.warnings, clip.sound ? null : clip.why, clip.drawn === clip.why ? null : clip.drawn];
      facts.textContent = told.filter(Boolean).join("; ");
      rows.replaceChildren(...clip.metrics.map(metricRow));
      time.setAttribute("aria-valuemax", seconds.toFixed(1));
      player.forget();
      player.use(clip.sound ? Object.assign(new Audio(), { preload: "auto", src: clip.sound }) : null);
      time.hidden = !clip.picture;
      frame = null;
      if (clip.picture) {
        const spec = { ...own.charts.spectrogram, params: [{ name: "seconds", value: seconds }, { name: "top", value: clip.top }],
          data: { values: [{ start: 0, end: seconds, low: 0, high: clip.top, url: clip.picture }] } };
        picture.setAttribute("aria-label", `Spectrogram, 0 to ${clip.top} kHz, ${number(seconds)} s`);
        draw(picture, spec, placed);
      }
      const told_of = clip.timeline ? Object.keys(clip.timeline.bars) : [];
      which.replaceChildren(...told_of.map((name) => make("option", { value: name }, clip.timeline.titles[name])));
      if (!told_of.includes(metric)) metric = told_of[0] ?? own.main;
      which.value = metric;
      which.closest(".bar").hidden = !told_of.length;
      line.hidden = !told_of.length;
      trace();
    }

    function metricRow(m) {
      const [low, high] = m.range;
      let bar = make("span", { class: "quiet" }, low === null && high === null ? "unbounded" : low === null ? `up to ${number(high)}` : `from ${number(low)}`);
      if (low !== null && high !== null) {
        const part = (x) => `${100 * Math.max(0, Math.min(1, (x - low) / (high - low)))}%`;
        bar = make("div", { class: "range", role: "img", "aria-label": `${number(m.value)} between ${number(low)} and ${number(high)}`, title: `${number(low)} to ${number(high)}` });
        if (m.interval) {
          const ends = make("i");
          ends.style.left = part(m.interval[0]);
          ends.style.right = `calc(100% - ${part(m.interval[1])})`;
          bar.append(ends);
        }
        if (m.value !== null) {
          const dot = make("b");
          dot.style.left = part(m.value);
          bar.append(dot);
        }
        bar = make("div", { class: "bar", style: "margin:0;flex-wrap:nowrap" }, make("span", { class: "quiet" }, number(low, 1)), bar, make("span", { class: "quiet" }, number(high, 1)));
      }
      return make("tr", {}, make("th", { scope: "row" }, m.title), make("td", { class: "number" }, number(m.value)),
        make("td", {}, m.interval ? `${number(m.interval[0])} .. ${number(m.interval[1])}` : "-"), make("td", {}, bar), make("td", {}, m.better));
    }

    function trace() {
      const told = clips[at].timeline;
      about.textContent = "";
      if (!told) {
        about.textContent = clips[at].picture ? "Click into the picture to play from there. This model has no timeline." : "";
        return;
      }
      const clip = told.logits[metric];
      const bend = bender(told.ranges[metric]);
      const frames = told.bars[metric].map((value, k) => ({ start: told.edges[k], end: told.edges[k + 1], value, clip, score: bend(value) }));
      const spec = JSON.parse(JSON.stringify(own.charts.timeline));
      spec.params = [{ name: "seconds", value: seconds }];
      spec.data = { values: frames };
      spec.layer[0].encoding.y.axis.labelExpr = `format(${told.bends[metric]}, '.2f')`;
      line.setAttribute("aria-label", `Timeline of ${told.titles[metric]}; the lowest part is at ${number(lowest(frames))} s`);
      draw(line, spec, placed);
      const whole = told.n_windows > 1 ? `the mean logit of its ${told.n_windows} windows` : "the clip's logit";
      about.textContent = `The line is ${whole}, ${number(clip, 3)} (score ${number(bend(clip))}): the mean of n = ${told.n_frames} frames. `
        + "A frame above it lifts the score, one below it lowers it; the areas above and below are equal. Click to play from there.";
    }

    const lowest = (frames) => frames.reduce((a, b) => (b.value < a.value ? b : a)).start;

    function bender([low, high]) {
      if (low !== null && high !== null) return (x) => low + (high - low) / (1 + Math.exp(-x));
      if (low !== null) return (x) => low + Math.log1p(Math.exp(x - low));
      if (high !== null) return (x) => high - Math.log1p(Math.exp(high - x));
      return (x) => x;
    }

    function placed(view) {
      measure(view);
      view.addResizeListener(() => requestAnimationFrame(() => measure(view)));
    }

    /** Where the time axis lies on the page. Both charts have it at the same place. */
    function measure(view) {
      const drawing = view.container()?.querySelector("svg");
      if (!drawing) return;
      const svg = drawing.getBoundingClientRect();
      const padding = view.padding().left ?? view.padding();
      frame = { left: svg.left - time.getBoundingClientRect().left + padding + view.origin()[0], width: view.width() };
      player.onplace(player.audio ? player.audio.currentTime : 0);
    }

    function point(event) {
      if (!frame || !player.audio) return;
      const part = (event.clientX - time.getBoundingClientRect().left - frame.left) / frame.width;
      if (part < -0.02 || part > 1.02) return;
      player.seek(Math.max(0, Math.min(1, part)) * seconds);
      if (player.audio.paused) player.toggle();
    }

    function key(event) {
      const t = player.audio ? player.audio.currentTime : 0;
      const does = { ArrowLeft: () => player.seek(t - 0.5), ArrowDown: () => player.seek(t - 0.5), ArrowRight: () => player.seek(t + 0.5), ArrowUp: () => player.seek(t + 0.5),
        Home: () => player.seek(0), End: () => player.seek(seconds), " ": player.toggle };
      if (event.ctrlKey || event.metaKey || event.altKey || !does[event.key]) return;
      event.preventDefault();
      does[event.key]();
    }

    for (const button of document.querySelectorAll("[data-clip]"))
      button.addEventListener("click", () => {
        show(Number(button.dataset.clip));
        document.getElementById("clip").scrollIntoView();
        time.focus({ preventScroll: true });
      });
    if (clips.length) show(0);
    else root.replaceChildren(make("p", { class: "quiet" }, "No clip was chosen to be shown."));
  }

  // ---- which page is this?

  if (data.kind === "ranking") deck(document.getElementById("deck"), data.deck);
  if (data.kind === "clips") viewer(document.getElementById("viewer"), data);
  const metric = document.getElementById("metric");
  metric?.addEventListener("change", () => {
    for (const part of document.querySelectorAll("[data-choice]")) part.hidden = part.dataset.choice !== metric.value;
  });
  document.documentElement.dataset.ready = "yes";
})();
