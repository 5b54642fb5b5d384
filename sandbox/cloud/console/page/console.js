// The console of the sandbox cloud: shows its services live and sends requests to them. No library, nothing from
// elsewhere. Text from services and models only ever becomes text nodes.

const POLL_MS = 2000;
const TIMEOUT_MS = 10000;
const SHOWN_CLASSES = 10;
const SHOWN_INSTANCES = 5;

const FASHION_MNIST = [
  "T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot",
];

// The body of the document's online debugging example: one white 28x28 image, written as it is there.
const DOCUMENT_BODY = (() => {
  const list = (item) => `[${Array(28).fill(item).join(", ")}]`;
  return `{"signature_name": "serving_default", "instances": [${list(list("[1.0]"))}]}`;
})();

const GRPC_METHOD = "tensorflow.serving.PredictionService/Predict";
const LATEST = "latest";

const $ = (id) => document.getElementById(id);
const fields = Object.fromEntries(
  ["service", "model", "which", "base", "path", "body", "classes", "send", "reset"].map((id) => [id, $(id)]),
);

let services = null; // null until the first answer

function h(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name === "onclick") element.addEventListener("click", value);
    else if (value !== undefined && value !== false) element.setAttribute(name, value === true ? "" : value);
  }
  element.append(...children.flat().filter((child) => child !== null && child !== undefined));
  return element;
}

// ---- what is there -------------------------------------------------------------------------------------------------

async function poll() {
  if (!document.hidden) {
    try {
      const answer = await fetch("api/overview", { signal: AbortSignal.timeout(TIMEOUT_MS) });
      if (!answer.ok) throw new Error(`HTTP ${answer.status}`);
      show((await answer.json()).services);
      connection("live", `Live, ${new Date().toLocaleTimeString()}`);
      $("notice").replaceChildren();
      $("services").classList.remove("stale");
    } catch {
      connection("down", "Sandbox cloud does not answer");
      $("services").classList.toggle("stale", services !== null);
      if (!$("notice").hasChildNodes()) {
        const fix = h("code", {}, "make up");
        const text = ["The sandbox cloud does not answer. Start it with ", fix, "; this page tries again by itself."];
        $("notice").replaceChildren(h("p", { class: "notice" }, text));
      }
      if (services === null) $("services").replaceChildren();
    }
  }
  setTimeout(poll, POLL_MS);
}

function connection(state, text) {
  const element = $("connection");
  // A screen reader is told of changes only, not of every look at the clock.
  element.setAttribute("aria-live", element.dataset.state === state ? "off" : "polite");
  element.dataset.state = state;
  element.textContent = text;
}

function show(found) {
  services = found;
  const list = $("services");
  list.setAttribute("aria-busy", "false");
  if (found.length === 0) {
    const text = ["No services. ", h("code", {}, "make up"), " deploys stack local; they appear here as they start."];
    list.replaceChildren(h("p", { class: "card empty" }, text));
    list.dataset.digest = "";
    fillForm();
    return;
  }
  const digest = JSON.stringify(found);
  if (list.dataset.digest === digest) return;
  list.dataset.digest = digest;
  const focused = document.activeElement?.dataset?.key;
  list.replaceChildren(...found.map(card));
  if (focused) list.querySelector(`[data-key="${CSS.escape(focused)}"]`)?.focus();
  fillForm();
}

function tone(state) {
  if (["Running", "AVAILABLE"].includes(state)) return "good";
  if (["Failed", "FAILED", "DeleteFailed"].includes(state)) return "bad";
  return ["Stopped", "END", "not served"].includes(state) ? "" : "wait";
}

const chip = (text, kind) => h("span", { class: `chip ${kind}` }, text);

function card(service) {
  const { ready, wanted } = service.replicas;
  const facts = [
    service.protocol === "grpc" ? "gRPC" : "HTTP",
    `${service.deployment} deployment`,
    h("span", { title: service.image }, service.image.slice(service.image.lastIndexOf("/") + 1)),
    `${ready} of ${wanted} replica${wanted === 1 ? "" : "s"} ready`,
  ];
  const copy = (event) => navigator.clipboard.writeText(service.address).then(() => {
    event.target.textContent = "Copied";
    setTimeout(() => { event.target.textContent = "Copy"; }, 1200);
  });
  const id = `service-${service.name}`;
  return h("article", { class: "card", "aria-labelledby": id },
    h("div", { class: "row" }, h("h3", { id }, service.name), chip(service.status, tone(service.status))),
    h("p", { class: "facts" }, facts.flatMap((fact, index) => (index ? [" · ", fact] : [fact]))),
    h("p", { class: "facts address" },
      h("span", { class: "mono" }, service.address),
      h("button", {
        type: "button", class: "quiet", onclick: copy, "data-key": `${service.name}/copy`,
        "aria-label": `Copy the address of ${service.name}`,
      }, "Copy")),
    service.status === "Running" ? null
      : h("p", { class: `problem ${tone(service.status)}` }, service.message || service.status),
    service.warnings.length === 0 ? null
      : h("ul", { class: "warnings" }, service.warnings.map((text) => h("li", {}, text))),
    service.problem && service.problem !== service.message ? h("p", { class: "problem" }, service.problem) : null,
    service.models.length === 0 ? null : modelTable(service));
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
    number: version.version,
    states: Object.entries(version.states),
    error: version.error,
  }));
  // A label of a version no replica speaks of is shown all the same.
  for (const { wanted } of model.labels) {
    if (!rows.some((row) => row.number === wanted)) rows.push({ number: wanted, states: [], error: "" });
  }
  // Versions above 2^53 arrive as text: a number of JavaScript would show another one.
  const newer = (one, other) => (BigInt(one.number) < BigInt(other.number) ? 1 : -1);
  rows.sort(newer);
  if (rows.length === 0) rows.push({ number: null, states: [], error: "" });
  return rows.map((row, index) => h("tr", {},
    index > 0 ? null : h("th", { scope: "rowgroup", rowspan: rows.length }, model.name, h("small", {}, model.policy),
      model.problem ? h("small", {}, model.problem) : null),
    h("td", { class: "number" }, row.number === null ? "" : askButton(service, model, `${row.number}`, { version: row.number })),
    h("td", {}, stateOf(row, service), row.error ? h("p", { class: "problem bad" }, row.error) : null),
    h("td", {}, model.labels.map((label) => labelOf(service, model, label, row.number)).filter(Boolean)
      .flatMap((label) => [label, " "]))));
}

function stateOf(row, service) {
  if (row.states.length === 0) return chip(service.replicas.ready ? "not served" : "unknown", "");
  const { ready } = service.replicas;
  const split = row.states.length > 1 || row.states[0][1] < ready;
  return row.states.flatMap(([state, count]) => [chip(split ? `${state} ${count} of ${ready}` : state, tone(state)), " "]);
}

function labelOf(service, model, { label, wanted, answered }, version) {
  const elsewhere = answered.filter((each) => each !== wanted);
  if (answered.includes(version)) {
    const text = elsewhere.includes(version) ? `${label} (moves to ${wanted})` : label;
    return askButton(service, model, text, { label });
  }
  return version === wanted && answered.length === 0 ? chip(`${label} (no answer yet)`, "wait") : null;
}

function askButton(service, model, text, which) {
  const value = which.label ? `label:${which.label}` : `version:${which.version}`;
  const by = which.label ? `label ${which.label}` : `version ${which.version}`;
  return h("button", {
    type: "button", class: "ask", "data-key": `${service.name}/${model.name}/${value}`,
    "aria-label": `${text}: debug ${model.name} by ${by} on ${service.name}`, title: "Use in online debugging",
    onclick: () => {
      fillForm({ service: service.name, model: model.name, which: value });
      fields.send.scrollIntoView({ block: "nearest" });
      fields.send.focus({ preventScroll: true });
    },
  }, text);
}

// ---- online debugging ----------------------------------------------------------------------------------------------

function options(select, entries, wanted) {
  const digest = JSON.stringify(entries);
  if (select.dataset.digest !== digest) {
    select.dataset.digest = digest;
    select.replaceChildren(...entries.map(([value, text]) => h("option", { value }, text)));
  }
  const values = entries.map(([value]) => value);
  select.value = values.includes(wanted) ? wanted : values[0] ?? "";
}

const chosenService = () => (services ?? []).find((service) => service.name === fields.service.value);

// Fills the lists from what is there. What a person chose stays chosen for as long as it is there, and a path that was
// edited by hand stays until one of the lists is changed.
function fillForm(wanted = {}) {
  const before = [fields.service, fields.model, fields.which].map((select) => select.value).join(" ");
  const names = (services ?? []).map((service) => [service.name, service.name]);
  const first = (services ?? []).find((service) => service.protocol === "http")?.name;
  options(fields.service, names, wanted.service ?? (fields.service.value || first));
  const service = chosenService();
  const models = service?.models ?? [];
  options(fields.model, models.map((model) => [model.name, model.name]), wanted.model ?? fields.model.value);
  const model = models.find((each) => each.name === fields.model.value);
  const which = [
    [LATEST, "latest"],
    ...(model?.versions ?? []).map(({ version }) => [`version:${version}`, `version ${version}`]),
    ...(model?.labels ?? []).map(({ label }) => [`label:${label}`, `label ${label}`]),
  ];
  options(fields.which, which, wanted.which ?? (fields.which.value || LATEST));
  const isGrpc = service?.protocol === "grpc";
  fields.base.value = service?.address ?? "no service";
  fields.path.readOnly = isGrpc;
  fields.send.disabled = !service;
  const after = [fields.service, fields.model, fields.which].map((select) => select.value).join(" ");
  if (before !== after || Object.keys(wanted).length || !fields.path.value) {
    fields.path.value = !service ? "" : isGrpc ? GRPC_METHOD : requestPath();
  }
}

function requestPath() {
  const [kind, name] = split(fields.which.value);
  const by = kind === "version" ? `/versions/${name}` : kind === "label" ? `/labels/${name}` : "";
  return `/v1/models/${encodeURIComponent(fields.model.value || "model")}${by}:predict`;
}

function split(value) {
  const colon = value.indexOf(":");
  return colon < 0 ? [value, ""] : [value.slice(0, colon), value.slice(colon + 1)];
}

async function send(event) {
  event.preventDefault();
  const service = chosenService();
  if (!service || isBusy()) return;
  busy(true);
  try {
    const [kind, name] = split(fields.which.value);
    const request = service.protocol === "grpc"
      ? {
        model: fields.model.value,
        version: kind === "version" ? name : null,
        label: kind === "label" ? name : null,
      }
      : { path: fields.path.value.trim() };
    const answer = await fetch("api/request", {
      method: "POST",
      headers: { "Content-Type": "application/json" },
      body: JSON.stringify({ service: service.name, body: fields.body.value, ...request }),
    });
    const data = await answer.json();
    if (answer.ok) showAnswer(data, service);
    else showProblem(`Not sent: ${data.Message}`);
  } catch {
    showProblem("Not sent: the sandbox cloud does not answer.");
  } finally {
    busy(false);
  }
}

const isBusy = () => fields.send.getAttribute("aria-disabled") === "true";

// The button is not `disabled`: that would take the focus from it.
function busy(on) {
  fields.send.setAttribute("aria-disabled", on);
  fields.send.textContent = on ? "Sending" : "Send request";
  $("answer").setAttribute("aria-busy", on);
}

function showProblem(text) {
  $("answer").replaceChildren(h("p", { class: "notice" }, text));
}

function showAnswer(answer, service) {
  if (answer.problem) {
    showProblem(`${service.name}: ${answer.problem}`);
    return;
  }
  const parsed = parse(answer.body);
  const ok = answer.status === 200;
  const version = answer.version === null ? null : h("span", {}, `answered by version ${answer.version}`);
  const parts = [h("div", { class: "result" },
    chip(service.protocol === "http" ? `HTTP ${answer.status}` : ok ? "gRPC OK" : "gRPC error", ok ? "good" : "bad"),
    h("span", {}, service.name), version, h("span", { class: "hint" }, `${(answer.seconds * 1000).toFixed(1)} ms`))];
  if (!ok) {
    const said = typeof parsed?.error === "string" ? parsed.error : answer.body.trim();
    parts.push(h("p", { class: "problem bad" }, said || meaning(answer.status)));
  }
  const predictions = Array.isArray(parsed?.predictions) ? parsed.predictions : [];
  predictions.slice(0, SHOWN_INSTANCES).forEach((prediction, index) => {
    const title = predictions.length > 1 ? `Instance ${index + 1} of ${predictions.length}` : "";
    for (const [output, scores] of vectors(prediction)) {
      parts.push(bars(scores, [title, output].filter(Boolean).join(", ")));
    }
  });
  const text = parsed === undefined ? answer.body : indented(answer.body);
  parts.push(h("details", { open: !ok && parsed === undefined && text.trim() !== "" },
    h("summary", {}, answer.truncated ? "Answer (first part)" : "Answer"), h("pre", { tabindex: "0" }, text || "(empty)")));
  $("answer").replaceChildren(...parts);
}

function meaning(status) {
  const known = {
    404: "There is no such path: is the URL right, and does the service speak this protocol?",
    503: "No replica is ready.",
    504: "No answer within the time limit.",
  };
  return known[status] ?? "The answer has no text.";
}

function parse(text) {
  try {
    // The server writes NaN and infinities as they are, which JSON has no words for.
    return JSON.parse(text.replace(SPECIAL, (found) => found.startsWith('"') ? found : "null"));
  } catch {
    return undefined;
  }
}

const SPECIAL = /"(?:[^"\\]|\\.)*"|-?\b(?:NaN|Infinity)\b/g;
const TOKEN = /"(?:[^"\\]|\\.)*"|[[\]{}:,]|[^\s[\]{}:,"]+/g;

// JSON over several lines, each value as the server wrote it: JavaScript rounds integers above 2^53.
function indented(text) {
  const tokens = text.match(TOKEN) ?? [];
  let depth = 0;
  let shown = "";
  tokens.forEach((token, index) => {
    const opens = token === "[" || token === "{";
    const closes = token === "]" || token === "}";
    const isEmpty = opens && ["]", "}"].includes(tokens[index + 1]);
    const wasEmpty = closes && ["[", "{"].includes(tokens[index - 1]);
    if (closes && !wasEmpty) shown += `\n${" ".repeat(depth -= 1)}`;
    shown += token;
    if (opens && !isEmpty) shown += `\n${" ".repeat(depth += 1)}`;
    if (token === ",") shown += `\n${" ".repeat(depth)}`;
    if (token === ":") shown += " ";
  });
  return shown;
}

const isScore = (value) => typeof value === "number" && Math.abs(value) <= Number.MAX_SAFE_INTEGER;
const isVector = (value) => Array.isArray(value) && value.length > 1 && value.every(isScore);

// The outputs of one instance that are lists of numbers, by name; the only output of a model has none.
function vectors(prediction) {
  if (isVector(prediction)) return [["", prediction]];
  if (prediction === null || typeof prediction !== "object" || Array.isArray(prediction)) return [];
  return Object.entries(prediction).filter(([, value]) => isVector(value));
}

function bars(scores, title) {
  const names = fields.classes.value === "fashion" && scores.length === FASHION_MNIST.length ? FASHION_MNIST : null;
  const areProbabilities = scores.every((score) => score >= 0 && score <= 1.000001);
  const most = areProbabilities ? 1 : Math.max(...scores.map(Math.abs)) || 1;
  const sorted = scores.map((score, index) => [score, names?.[index] ?? `class ${index}`]).sort((a, b) => b[0] - a[0]);
  const shown = sorted.slice(0, SHOWN_CLASSES);
  const caption = [title, areProbabilities ? "class probabilities" : "scores",
    shown.length < sorted.length ? `the highest ${shown.length} of ${sorted.length}` : ""].filter(Boolean).join(", ");
  return h("table", { class: "bars" },
    h("caption", { class: title || shown.length < sorted.length ? "hint" : "hidden" }, caption),
    h("thead", { class: "hidden" }, h("tr", {},
      ["Class", "Bar", areProbabilities ? "Probability" : "Score"].map((text) => h("th", { scope: "col" }, text)))),
    h("tbody", {}, shown.map(([score, name], index) => {
      const fill = h("div");
      fill.style.width = `${Math.min(100, (Math.abs(score) / most) * 100)}%`;
      return h("tr", { class: index === 0 ? "top" : "" },
        h("th", { scope: "row" }, name),
        h("td", { "aria-hidden": "true" }, h("div", { class: "bar" }, fill)),
        h("td", { class: "value" }, score.toFixed(4)));
    })));
}

// ---- start ---------------------------------------------------------------------------------------------------------

fields.body.value = DOCUMENT_BODY;
fields.service.addEventListener("change", () => fillForm({ service: fields.service.value }));
fields.model.addEventListener("change", () => fillForm({ model: fields.model.value, which: LATEST }));
fields.which.addEventListener("change", () => fillForm({ which: fields.which.value }));
fields.reset.addEventListener("click", () => { fields.body.value = DOCUMENT_BODY; });
$("request").addEventListener("submit", send);
$("request").addEventListener("keydown", (event) => {
  if (event.key === "Enter" && event.ctrlKey) $("request").requestSubmit();
});
poll();
