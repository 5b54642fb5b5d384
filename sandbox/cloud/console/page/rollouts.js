// Rollouts as they happen: writes of model config files, and who does not answer by the newest yet.

import { $, chip, h, look, plural, refill, repeat } from "./dom.js";
import { chosenTab, onTab } from "./tabs.js";

const POLL_MS = 1000;
const ASIDE_MS = 4000; // while another tab is shown

async function turn() {
  let found;
  try {
    found = await look("rollouts");
  } catch {
    return; // the list of services says that nothing answers
  }
  const active = found.writes.filter((write) => write.waiting?.length || isTried(write));
  $("tab-rollouts").dataset.active = active.length > 0;
  $("rollout-mark").textContent = active.length ? " under way" : "";
  refill($("writes"), JSON.stringify(found.writes), () => (found.writes.length === 0
    ? h("p", { class: "empty" }, "No model config file has been written yet.")
    : h("ol", { class: "list" }, found.writes.map(item))));
}

// A gate is under way until the next write, which says what came of it.
const isTried = (write) => write.isNewest && write.tried.length > 0;

function item(write) {
  const isNewest = write.waiting !== undefined;
  const state = isTried(write) ? chip("under way", "wait") : !isNewest ? null
    : write.waiting.length ? chip("under way", "wait")
      : chip(write.seconds === null ? "answered" : `answered after ${write.seconds} s`, "good");
  const lines = [...write.lines.map((line) => h("li", {}, line)),
    write.more ? h("li", { class: "hint" }, `and ${plural(write.more, "more change")}`) : null];
  return h("li", { class: isNewest || isTried(write) ? "newest" : "" },
    h("div", { class: "result" }, chip(write.step), state,
      h("span", { class: "hint" }, new Date(write.time * 1000).toLocaleString())),
    h("p", {}, write.by ? ["by stack ", h("strong", {}, write.by)] : "by hand (the file names no stack)",
      write.services.length ? `, for ${write.services.join(", ")}` : ""),
    write.lines.length ? h("ul", { class: "changes" }, lines) : null,
    write.gates.length ? h("ul", { class: "changes" },
      write.gates.map((gate) => h("li", { class: gate.passed ? "passed" : "failed" }, gate.line))) : null,
    write.tried.length ? h("ul", { class: isTried(write) ? "changes waits" : "changes" },
      write.tried.map((each) => h("li", {}, `since ${new Date(each.since).toLocaleTimeString()}: ${each.demands}`))) : null,
    write.restarts.length ? h("p", { class: "hint" }, `Read only at start: ${write.restarts.join(", ")} to be restarted.`) : null,
    isNewest && write.waiting.length
      ? h("ul", { class: "changes waits" }, write.waiting.slice(0, 10).map((line) => h("li", {}, line))) : null,
    h("p", { class: "hint mono" }, write.file));
}

export function startRollouts() {
  const run = repeat(() => (chosenTab() === "rollouts" || $("tab-rollouts").dataset.active === "true" ? POLL_MS : ASIDE_MS), turn);
  onTab((tab) => tab === "rollouts" && run());
}
