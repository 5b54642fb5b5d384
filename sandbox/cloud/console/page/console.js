// The console of the sandbox cloud: shows its services live and sends requests to them. No library, nothing from
// elsewhere.

import { $, h, repeat } from "./dom.js";
import { startDebugging } from "./debugging.js";
import { isEmpty, lookAtServices, onFilter } from "./services.js";
import { startRollouts } from "./rollouts.js";
import { startStory } from "./story.js";

const POLL_MS = 2000;

async function turn() {
  try {
    await lookAtServices();
    connection("live", `Live, ${new Date().toLocaleTimeString()}`);
    $("notice").replaceChildren();
    $("services").classList.remove("stale");
  } catch {
    connection("down", "Sandbox cloud does not answer");
    if (!$("notice").hasChildNodes()) {
      const fix = h("code", {}, "make up");
      const text = ["The sandbox cloud does not answer. Start it with ", fix, "; this page tries again by itself."];
      $("notice").replaceChildren(h("p", { class: "notice" }, text));
    }
    if (isEmpty()) $("services").replaceChildren();
    else $("services").classList.add("stale");
    delete $("services").dataset.digest;
  }
}

function connection(state, text) {
  const element = $("connection");
  // A screen reader is told of changes only, not of every look at the clock.
  element.setAttribute("aria-live", element.dataset.state === state ? "off" : "polite");
  element.dataset.state = state;
  element.textContent = text;
}

startDebugging();
onFilter(repeat(() => POLL_MS, turn));
startStory();
startRollouts();
