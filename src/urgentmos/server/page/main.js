// The tabs, and what the service says of itself.

import { $, ask, say } from "./ui.js";
import { setUpScore } from "./score.js";
import { setUpCompare } from "./compare.js";
import { setUpRank } from "./rank.js";

const tabs = [...document.querySelectorAll("[role=tab]")];

function show(tab, focus = true) {
  for (const other of tabs) {
    const on = other === tab;
    other.setAttribute("aria-selected", on);
    other.tabIndex = on ? 0 : -1;
    $(other.getAttribute("aria-controls")).hidden = !on;
  }
  if (focus) tab.focus();
  history.replaceState(null, "", `#${tab.getAttribute("aria-controls")}`);
}

tabs.forEach((tab, i) => {
  tab.addEventListener("click", () => show(tab));
  tab.addEventListener("keydown", (event) => {
    const to = { ArrowRight: i + 1, ArrowLeft: i - 1, Home: 0, End: tabs.length - 1 }[event.key];
    if (to === undefined) return;
    event.preventDefault();
    show(tabs[(to + tabs.length) % tabs.length]);
  });
});
const asked = tabs.find((tab) => `#${tab.getAttribute("aria-controls")}` === location.hash);
if (asked) show(asked, false);
for (const kind of ["dragover", "drop"]) addEventListener(kind, (event) => event.preventDefault()); // a near miss must not leave the page

const facts = ask("v1/models");
facts.then(({ served }) => { $("model").textContent = `${served.name} ${served.version}`; })
  .catch((error) => say("score-message", error.message, true));
setUpScore(facts);
setUpCompare(facts);
setUpRank(facts);
