// The list of services: what each is to serve, and what its replicas say they serve.

import { $, chip, h, look, pager, plural, problem, refill, tone } from "./dom.js";
import { choose, knowNames, knowViews } from "./debugging.js";
import { chooseTab } from "./tabs.js";

const SERVICES_PER_PAGE = 20;
const MODELS_PER_PAGE = 20;

const wanted = { page: 1, at: new Map() };
let known = null; // digest of the names that the lists have
let again = () => {};

export const isEmpty = () => !$("services").querySelector("article");

export async function lookAtServices() {
  const found = await look("overview", {
    q: $("filter").value.trim(), troubled: $("troubled").checked ? 1 : "", page: wanted.page,
    at: [...wanted.at].map(([name, page]) => `${name}:${page}`),
  });
  if (found.names !== known) {
    knowNames((await look("names")).services);
    known = found.names;
  }
  show(found);
}

export function onFilter(listener) {
  again = listener;
  let timer = 0;
  const changed = () => {
    clearTimeout(timer);
    timer = setTimeout(() => {
      wanted.page = 1;
      wanted.at.clear();
      listener();
    }, 150);
  };
  $("filter").addEventListener("input", changed);
  $("troubled").addEventListener("change", changed);
}

function show(found) {
  wanted.page = found.page;
  const list = $("services");
  list.setAttribute("aria-busy", "false");
  knowViews(found.services);
  const models = found.services.reduce((sum, service) => sum + service.total, 0);
  const some = found.matching < found.total || found.services.some((service) => service.matching < service.total);
  $("found").textContent = found.total === 0 ? ""
    : some ? `${found.matching} of ${plural(found.total, "service")}, filtered`
      : found.pages > 1 ? plural(found.total, "service") : `${plural(found.total, "service")}, ${plural(models, "model")}`;
  refill($("places"), JSON.stringify(found.problems), () => found.problems.map((text) => problem(text, "wait")));
  refill($("groups"), JSON.stringify(found.groups), () => found.groups.map(groupCard));
  refill(list, JSON.stringify([found.services, found.page, found.pages, found.total]), () => {
    if (found.total === 0) {
      const text = ["No services. ", h("code", {}, "make up"), " deploys stack local; they appear here as they start."];
      return h("p", { class: "card empty" }, text);
    }
    if (found.matching === 0) {
      const text = $("troubled").checked && !$("filter").value ? "Nothing needs a look." : "Nothing matches the filter.";
      return h("p", { class: "card empty" }, text);
    }
    const turn = (page) => {
      wanted.page = page;
      again();
    };
    const size = { page: found.page, pages: found.pages, total: found.matching };
    return [...found.services.map(card), pager("services", size, SERVICES_PER_PAGE, turn, "services")].filter(Boolean);
  });
}

// A group of services: who gets which share of the requests at its address.
function groupCard(group) {
  const id = `group-${group.name}`;
  return h("article", { class: "card", "aria-labelledby": id },
    h("div", { class: "row" }, h("h3", { id }, group.name),
      h("span", { class: "hint" }, group.mode === "auto" ? "group, shares by replicas" : "group, shares by weight")),
    h("p", { class: "facts address" }, h("span", { class: "mono" }, group.address)),
    h("table", { class: "bars" },
      h("caption", { class: "hidden" }, `Shares of the requests of ${group.name}`),
      h("thead", { class: "hidden" }, h("tr", {}, ["Service", "Bar", "Share"].map((text) => h("th", { scope: "col" }, text)))),
      h("tbody", {}, group.members.map(({ service, percent }) => {
        const fill = h("div");
        fill.style.width = `${percent}%`;
        return h("tr", {}, h("th", { scope: "row" }, service),
          h("td", { "aria-hidden": "true" }, h("div", { class: "bar" }, fill)), h("td", { class: "value" }, `${percent} %`));
      }))));
}

function card(service) {
  const { ready, wanted: count } = service.replicas;
  const facts = [
    service.place === "Kubernetes" ? "HTTP and gRPC" : service.protocol === "grpc" ? "gRPC" : "HTTP",
    service.place === "Kubernetes" ? "Kubernetes" : `PAI-EAS, ${service.deployment} deployment`,
    service.group ? `group ${service.group}` : null,
    h("span", { title: service.image }, service.image.slice(service.image.lastIndexOf("/") + 1)),
    `${ready} of ${plural(count, service.place === "Kubernetes" ? "pod" : "replica")} ready`,
  ].filter(Boolean);
  const copy = (event) => navigator.clipboard.writeText(service.address).then(() => {
    event.target.textContent = "Copied";
    setTimeout(() => { event.target.textContent = "Copy"; }, 1200);
  });
  const id = `service-${service.name}`;
  const inside = (tab, text) => h("button", {
    type: "button", class: "quiet", "data-key": `${service.name}/${tab}`, "aria-label": `${text} of ${service.name}`,
    onclick: () => {
      choose({ service: service.name });
      chooseTab(tab);
      $(`tab-${tab}`).focus();
    },
  }, text);
  return h("article", { class: "card", "aria-labelledby": id },
    h("div", { class: "row" }, h("h3", { id }, service.name), chip(service.status, tone(service.status))),
    h("p", { class: "facts" }, facts.flatMap((fact, index) => (index ? [" · ", fact] : [fact]))),
    h("p", { class: "facts address" },
      h("span", { class: "mono" }, service.address),
      h("button", {
        type: "button", class: "quiet", onclick: copy, "data-key": `${service.name}/copy`,
        "aria-label": `Copy the address of ${service.name}`,
      }, "Copy")),
    h("p", { class: "inside" }, inside("logs", "Logs"), inside("events", "Events"), inside("metrics", "Metrics")),
    service.status === "Running" ? null : problem(service.message || service.status, tone(service.status)),
    service.warnings.length === 0 ? null
      : h("ul", { class: "warnings" }, service.warnings.map((text) => h("li", {}, text))),
    service.problem && service.problem !== service.message ? problem(service.problem, "") : null,
    counts(service),
    service.models.length === 0 ? null : modelTable(service));
}

// Said where a service has more models than a page of them.
function counts(service) {
  if (service.total <= MODELS_PER_PAGE) return null;
  const parts = [plural(service.total, "model"), service.matching < service.total ? `${service.matching} match` : "",
    service.troubled ? `${service.troubled} ${service.troubled === 1 ? "needs" : "need"} a look` : "",
    service.asked < service.total && service.replicas.ready ? `asked for ${service.asked} so far` : ""];
  const turn = (page) => {
    wanted.at.set(service.name, page);
    again();
  };
  const size = { page: service.page, pages: service.pages, total: service.matching };
  return [h("p", { class: `facts ${service.troubled ? "look" : ""}` }, parts.filter(Boolean).join(" · ")),
    pager(`models of ${service.name}`, size, MODELS_PER_PAGE, turn, service.name)];
}

function modelTable(service) {
  const head = ["Model", "Version", "State", "Labels"].map((text) => h("th", { scope: "col" }, text));
  return h("table", {},
    h("caption", { class: "hidden" }, `Models of ${service.name}`),
    h("thead", {}, h("tr", {}, head)),
    h("tbody", {}, service.models.flatMap((model) => modelRows(service, model))));
}

function modelRows(service, model) {
  const rows = model.versions.map((version) => ({
    number: version.version, states: Object.entries(version.states), error: version.error,
  }));
  for (const { wanted: version } of model.labels) {
    if (!rows.some((row) => row.number === version)) rows.push({ number: version, states: [], error: "" });
  }
  for (const version of model.missing) {
    if (!rows.some((row) => row.number === version)) rows.push({ number: version, states: [], error: "" });
  }
  // Versions above 2^53 arrive as text: a number of JavaScript would show another one.
  const newer = (one, other) => (BigInt(one.number) < BigInt(other.number) ? 1 : -1);
  rows.sort(newer);
  if (rows.length === 0) rows.push({ number: null, states: [], error: "" });
  return rows.map((row, index) => h("tr", {},
    index > 0 ? null : h("th", { scope: "rowgroup", rowspan: rows.length }, model.name, h("small", {}, model.policy),
      model.problem ? h("small", {}, model.problem) : null),
    h("td", { class: "number" }, row.number === null ? "" : askButton(service, model, `${row.number}`, { version: row.number })),
    h("td", {}, stateOf(row, service), row.error ? problem(row.error) : null),
    h("td", {}, model.labels.map((label) => labelOf(service, model, label, row.number)).filter(Boolean)
      .flatMap((label) => [label, " "]))));
}

function stateOf(row, service) {
  if (row.states.length === 0) return chip(service.replicas.ready ? "not served" : "unknown", "");
  const { ready } = service.replicas;
  const split = row.states.length > 1 || row.states[0][1] < ready;
  return row.states.flatMap(([state, count]) => [chip(split ? `${state} ${count} of ${ready}` : state, tone(state)), " "]);
}

function labelOf(service, model, { label, wanted: to, answered }, version) {
  const elsewhere = answered.filter((each) => each !== to);
  if (answered.includes(version)) {
    const text = elsewhere.includes(version) ? `${label} (moves to ${to})` : label;
    return askButton(service, model, text, { label });
  }
  return version === to && answered.length === 0 ? chip(`${label} (no answer yet)`, "wait") : null;
}

function askButton(service, model, text, which) {
  const value = which.label ? `label:${which.label}` : `version:${which.version}`;
  const by = which.label ? `label ${which.label}` : `version ${which.version}`;
  return h("button", {
    type: "button", class: "ask", "data-key": `${service.name}/${model.name}/${value}`,
    "aria-label": `${text}: debug ${model.name} by ${by} on ${service.name}`, title: "Use in online debugging",
    onclick: () => {
      chooseTab("debugging");
      choose({ service: service.name, model: model.name, which: value });
      $("send").scrollIntoView({ block: "nearest" });
      $("send").focus({ preventScroll: true });
    },
  }, text);
}
