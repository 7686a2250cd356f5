// The tab Rank: folders -> systems -> a table with intervals and what cannot be told apart.

import { $, ask, chosen, csv, download, dropZone, element, isAudio, say, shown, whisker } from "./ui.js";

const systems = new Map(); // name -> [{content, file}]
let about = { limits: {}, report: false };
let ranking = null;

export function setUpRank(facts) {
  facts.then((told) => { about = told; }).catch(() => {});
  dropZone($("rank-drop"), take);
  $("rank-folder").addEventListener("change", () => take(chosen($("rank-folder"))));
  $("rank-go").addEventListener("click", rank);
  $("rank-clear").addEventListener("click", () => { systems.clear(); list(); });
  $("rank-csv").addEventListener("click", () => download("ranking.csv", csv(ranking.systems), "text/csv"));
  $("rank-report").addEventListener("click", report);
}

// A folder with files is a system; a folder of folders is as many systems as it has folders.
function take(found) {
  const audio = found.filter(({ path }) => isAudio(path)).map(({ path, file }) => ({ parts: path.split("/"), file }));
  const inFolders = audio.filter(({ parts }) => parts.length > 1);
  if (!inFolders.length) {
    say("rank-message", "Drop folders, not single files: each folder is a system.", true);
    return;
  }
  for (const top of new Set(inFolders.map(({ parts }) => parts[0]))) {
    const below = inFolders.filter(({ parts }) => parts[0] === top);
    const depth = below.every(({ parts }) => parts.length > 2) ? 1 : 0;
    for (const name of new Set(below.map(({ parts }) => parts[depth]))) systems.set(name, []);
    for (const { parts, file } of below) {
      const content = parts.slice(depth + 1).join("/").replace(/\.\w+$/, "");
      systems.get(parts[depth]).push({ content, file });
    }
  }
  list();
}

function list() {
  ranking = null;
  $("rank-results").hidden = true;
  $("rank-actions").hidden = !systems.size;
  $("systems").replaceChildren(...[...systems].map(([name, clips]) => {
    const remove = element("button", { type: "button", textContent: "×", attributes: { "aria-label": `Remove ${name}` } });
    remove.addEventListener("click", () => { systems.delete(name); list(); });
    return element("li", {}, `${name} · ${clips.length} ${clips.length === 1 ? "clip" : "clips"}`, remove);
  }));
  const n = [...systems.values()].reduce((sum, clips) => sum + clips.length, 0);
  const most = about.limits.files ?? Infinity;
  const few = systems.size === 1 ? "Add the folder of another system." : "";
  say("rank-message", n > most ? `There are ${n} files, and a request may have ${most}. Use fewer, or the command urgentmos rank.` : few, n > most);
  $("rank-go").disabled = systems.size < 2 || n > most;
}

function form() {
  const made = new FormData();
  for (const [system, clips] of systems) {
    for (const { content, file } of clips) {
      made.append("files", file, file.name);
      made.append("system_id", system);
      made.append("reference_id", content);
    }
  }
  return made;
}

async function rank() {
  say("rank-message", "Ranking …");
  $("rank-go").disabled = true;
  try {
    ranking = await ask(`v1/rank?scoring=${$("scoring").value}`, { form: form() });
    say("rank-message", "");
    show();
  } catch (error) {
    say("rank-message", error.message, true);
  }
  $("rank-go").disabled = false;
}

function show() {
  const rows = ranking.systems;
  const known = rows.flatMap((row) => [row.score, row.low, row.high]).filter((x) => x != null);
  const [least, most] = [Math.min(...known), Math.max(...known)];
  $("rank-table").tBodies[0].replaceChildren(...rows.map((row) => {
    const interval = row.low == null ? "–" : `${shown(row.low)} … ${shown(row.high)}`;
    const label = `score ${shown(row.score)}, interval ${interval}`;
    const ranks = row.rank_low < row.rank_high ? `${row.rank_low}–${row.rank_high}` : `${row.rank}`;
    const alike = row.not_distinguishable_from.join(", ");
    const td = (className, ...content) => element("td", { className }, ...content);
    const picture = td("", whisker(row.score, row.low, row.high, least, most, label), element("span", { className: "said", textContent: interval }));
    return element("tr", {}, td("number", String(row.rank)), td("clip", element("strong", { textContent: row.system_id })),
      td("number score", shown(row.score)), picture, td("", ranks), td("", alike));
  }));
  const contents = `${ranking.n_contents} ${ranking.n_contents === 1 ? "content" : "contents"}`;
  $("rank-about").textContent = `${ranking.model} on ${contents}, intervals at ${(100 * ranking.confidence).toFixed(0)} %`;
  const failed = ranking.failed.map(({ error }) => error);
  $("rank-warnings").replaceChildren(...[...ranking.warnings, ...failed].map((text) => element("li", { textContent: text })));
  $("rank-report").hidden = !about.report;
  $("rank-results").hidden = false;
}

async function report() {
  say("rank-message", "Making the report …");
  try {
    download("ranking.html", await ask(`v1/rank?format=html&scoring=${ranking.scoring}`, { form: form(), as: "blob" }));
    say("rank-message", "");
  } catch (error) {
    say("rank-message", error.message, true);
  }
}
