// Log, events and counters of the chosen service.

import { $, chip, h, look, pager, plural, problem, refill, Refused, repeat } from "./dom.js";
import { chosenName, onService } from "./debugging.js";
import { chosenTab, onTab } from "./tabs.js";

const POLL_MS = 2000;
const MODELS_PER_PAGE = 50;

let page = 1;

async function logs(service) {
  const { lines } = await look("log", { service, word: $("word").value.trim(), lines: 300 });
  const pre = $("log");
  const text = lines.join("\n") || "No lines.";
  if (pre.textContent !== text) {
    pre.textContent = text;
    if ($("follow").checked) pre.scrollTop = pre.scrollHeight;
  }
}

async function events(service) {
  const { events: found } = await look("events", { service });
  refill($("happened"), JSON.stringify([service, found]), () => (found.length === 0
    ? h("p", { class: "empty" }, "No events.")
    : h("ul", { class: "list" }, found.map((event) => h("li", {},
      h("div", { class: "result" }, chip(event.reason, event.type === "Warning" ? "wait" : ""),
        h("span", { class: "hint" }, [when(event.time), event.about].filter(Boolean).join(" · "))),
      h("p", {}, messageOf(event)))))));
}

// The progress of an update is told as JSON.
function messageOf({ message }) {
  try {
    const { message: text, availableInstance: ready, unavailableInstance: waiting } = JSON.parse(message);
    return text === undefined ? message : `${text}: ${ready} ready, ${waiting} not`;
  } catch {
    return message;
  }
}

function when(time) {
  const date = new Date(time);
  return Number.isNaN(date.valueOf()) ? time : date.toLocaleString();
}

async function metrics(service) {
  const found = await look("metrics", { service, page, q: $("meter-filter").value.trim() });
  $("meter-filter-label").hidden = found.pages < 2 && !$("meter-filter").value;
  refill($("meters"), JSON.stringify([service, found]), () => {
    if (found.problem) return problem(`No counters: ${found.problem}.`, "wait");
    const heard = `${plural(found.replicas, "replica")} heard. All versions of a model together: TensorFlow Serving counts by model. `
      + "Latencies are those of answers, within 1.8 times.";
    if (found.models.length === 0) return h("p", { class: "empty" }, `No requests. ${heard}`);
    const turn = (to) => {
      page = to;
      run();
    };
    const size = { page: found.page, pages: found.pages, total: found.matching };
    return [h("table", { class: "meters" },
      h("caption", { class: "hint" }, "Since the replicas started; in small print, ",
        found.seconds ? `the last ${found.seconds} s` : "from now on"),
      h("thead", {}, h("tr", {}, ["Model", "Requests", "Errors", "p50", "p99"].map((text) => h("th", { scope: "col" }, text)))),
      h("tbody", {}, found.models.map(({ model, start, lately }) => h("tr", {},
        h("th", { scope: "row" }, model),
        h("td", { class: "number" }, both(start.requests, lately.requests)),
        h("td", { class: "number" }, both(sum(start.errors), sum(lately.errors)), said(start.errors)),
        h("td", { class: "number" }, both(ms(start.p50), ms(lately.p50))),
        h("td", { class: "number" }, both(ms(start.p99), ms(lately.p99))))))),
      pager(`models of ${service}`, size, MODELS_PER_PAGE, turn, "meters"),
      h("p", { class: "hint" }, heard)].filter(Boolean);
  });
}

const sum = (errors) => Object.values(errors).reduce((all, each) => all + each, 0);
const ms = (value) => (value === null ? "-" : `${value} ms`);
const both = (start, lately) => [h("div", {}, `${start}`), h("small", {}, `${lately}`)];
const said = (errors) => Object.entries(errors).map(([status, count]) => h("small", { class: "bad" }, `${count} ${status}`));

const LOOKS = { logs: [logs, "log-notice"], events: [events, "events-notice"], metrics: [metrics, "metrics-notice"] };

async function turn() {
  const service = chosenName();
  const [ask, notice] = LOOKS[chosenTab()] ?? [];
  if (!ask || !service) return;
  try {
    await ask(service);
    $(notice).replaceChildren();
  } catch (error) {
    const text = error instanceof Refused ? error.message : "The sandbox cloud does not answer.";
    refill($(notice), text, () => problem(text));
    delete $(notice).dataset.digest;
  }
}

let run = () => {};

export function startStory() {
  run = repeat(() => POLL_MS, turn);
  onTab(() => run());
  onService(() => {
    page = 1;
    $("log").textContent = "";
    for (const id of ["happened", "meters"]) {
      $(id).replaceChildren();
      delete $(id).dataset.digest;
    }
    run();
  });
  for (const id of ["word", "meter-filter"]) {
    $(id).addEventListener("input", () => {
      page = 1;
      run();
    });
  }
  $("follow").addEventListener("change", () => run());
}
