// Online debugging: the form, what is sent, and the history of this session.

import { $, chip, h, look, options, refill, Refused } from "./dom.js";
import { namedClasses, showAnswer, showProblem } from "./answer.js";

const GRPC_METHOD = "tensorflow.serving.PredictionService/Predict";
const LATEST = "latest";
const NOBODY = "none of them";
const KEPT_REQUESTS = 50;
const KEPT_LETTERS = 20_000_000;

// The body of the document's online debugging example: one white 28x28 image, written as it is there.
const DOCUMENT_BODY = (() => {
  const list = (item) => `[${Array(28).fill(item).join(", ")}]`;
  return `{"signature_name": "serving_default", "instances": [${list(list("[1.0]"))}]}`;
})();

const fields = Object.fromEntries(
  ["service", "model", "which", "other", "signature", "base", "path", "body", "classes", "send"].map((id) => [id, $(id)]),
);

let names = []; // every service with the names of its models
const views = new Map(); // versions and labels, by service and model, as they were last seen
let bodyIs = "signature"; // or "document", or "own": what somebody wrote
let pathIs = ""; // the path that follows from the lists
let asked = 0; // which question about a signature is the newest
let history = [];
let count = 0;
const listeners = [];

const key = (service, model) => JSON.stringify([service, model]);
const chosenService = () => names.find((service) => service.name === fields.service.value);
const chosenView = () => views.get(key(fields.service.value, fields.model.value));

export const chosenName = () => fields.service.value;

export const onService = (listener) => listeners.push(listener);

// ---- what can be chosen --------------------------------------------------------------------------------------------

export function knowNames(found) {
  names = found;
  choose({});
}

export function knowViews(services) {
  for (const service of services) {
    for (const model of service.models) views.set(key(service.name, model.name), model);
  }
  fillWhich();
}

// Fills the lists. What a person chose stays chosen for as long as it is there, and a path that was edited by hand stays
// until one of the lists is changed.
export function choose(wanted) {
  const before = [fields.service.value, fields.model.value, fields.which.value].join("\n");
  const first = names.find((service) => service.protocol === "http")?.name;
  options(fields.service, names.map(({ name }) => [name, name]), wanted.service ?? (fields.service.value || first));
  const service = chosenService();
  options(fields.model, (service?.models ?? []).map((model) => [model, model]), wanted.model ?? fields.model.value);
  fillWhich(wanted.which);
  const isGrpc = service?.protocol === "grpc";
  fields.base.value = service?.address ?? "no service";
  fields.path.readOnly = isGrpc;
  $("times-label").hidden = !service?.members;
  fields.send.disabled = !service;
  const after = [fields.service.value, fields.model.value, fields.which.value].join("\n");
  if (before !== after || Object.keys(wanted).length) {
    writePath();
    askSignature();
    if (before.split("\n")[0] !== fields.service.value) listeners.forEach((listener) => listener());
  }
}

function fillWhich(wanted) {
  const view = chosenView();
  const labels = (view?.labels ?? []).map(({ label }) => [`label:${label}`, `label ${label}`]);
  const entries = [
    [LATEST, "latest"],
    ...(view?.versions ?? []).map(({ version }) => [`version:${version}`, `version ${version}`]),
    ...labels,
  ];
  // What was asked for may not be known of yet: it is, as soon as the model has been looked at.
  const value = wanted ?? (fields.which.value || LATEST);
  if (!entries.some(([each]) => each === value) && !view) entries.push([value, value.replace(":", " ")]);
  const was = fields.which.value;
  options(fields.which, entries, value);
  options(fields.other, [["", "nothing"], ...entries], fields.other.value);
  if (wanted === undefined && was && was !== fields.which.value) writePath();
}

function writePath() {
  const service = chosenService();
  pathIs = !service ? "" : service.protocol === "grpc" ? GRPC_METHOD : requestPath(fields.which.value);
  fields.path.value = pathIs;
}

function requestPath(value) {
  const [kind, name] = split(value);
  const by = kind === "version" ? `/versions/${name}` : kind === "label" ? `/labels/${name}` : "";
  return `/v1/models/${encodeURIComponent(fields.model.value || "model")}${by}:predict`;
}

function split(value) {
  const colon = value.indexOf(":");
  return colon < 0 ? [value, ""] : [value.slice(0, colon), value.slice(colon + 1)];
}

function whichOf(value) {
  const [kind, name] = split(value);
  return { version: kind === "version" ? name : null, label: kind === "label" ? name : null };
}

// ---- the body ------------------------------------------------------------------------------------------------------

// Asks what the chosen version takes, and writes a body unless somebody has written one.
async function askSignature() {
  const question = ++asked;
  const service = fields.service.value;
  const model = fields.model.value;
  if (!service || !model) {
    hint("");
    return;
  }
  try {
    const found = await look("model", {
      service, model, ...whichOf(fields.which.value), signature: fields.signature.value,
    });
    if (question !== asked) return;
    if (found.view.name) {
      views.set(key(service, model), found.view);
      fillWhich();
    }
    const { sample } = found;
    const signatures = sample.signatures ?? [];
    options(fields.signature, signatures.map((name) => [name, name]), sample.signature);
    $("signature-label").hidden = signatures.length < 2;
    const takes = sample.inputs ? `Version ${sample.version} takes ${sample.inputs}. ` : "";
    if (bodyIs === "signature" && sample.body) fields.body.value = sample.body;
    const why = found.problem || sample.problem;
    hint(bodyIs === "signature" && sample.body ? `Made from the signature. ${takes}`
      : `${takes}${why ? `No body can be made from the signature: ${why}. ` : ""}`);
  } catch (error) {
    if (question === asked) hint(error instanceof Refused ? `${error.message} ` : "");
  }
}

function hint(text) {
  $("signature-hint").textContent = text;
}

// ---- sending -------------------------------------------------------------------------------------------------------

const isBusy = () => fields.send.getAttribute("aria-disabled") === "true";

// The button is not `disabled`: that would take the focus from it.
function busy(on) {
  fields.send.setAttribute("aria-disabled", on);
  fields.send.textContent = on ? "Sending" : "Send request";
  $("answer").setAttribute("aria-busy", on);
}

async function send(event) {
  event?.preventDefault();
  const service = chosenService();
  if (!service || isBusy()) return;
  busy(true);
  const form = {
    service: service.name, model: fields.model.value, which: fields.which.value, other: fields.other.value,
    path: fields.path.value.trim(), body: fields.body.value, bodyIs, times: service.members ? $("times").value : "1",
  };
  const isGrpc = service.protocol === "grpc";
  const request = isGrpc ? { model: form.model, ...whichOf(form.which) } : { path: form.path };
  const body = JSON.stringify({
    service: form.service, body: form.body, ...request, other: form.other ? whichOf(form.other) : null,
    classes: namedClasses(),
  });
  const members = new Map((service.members ?? []).map((member) => [member, 0]));
  try {
    let data;
    for (let turn = 1; turn <= Number(form.times); turn += 1) {
      if (turn > 1) fields.send.textContent = `Sending ${turn} of ${form.times}`;
      const answer = await fetch("api/request", { method: "POST", headers: { "Content-Type": "application/json" }, body });
      data = await answer.json();
      if (!answer.ok) {
        showProblem(`Not sent: ${data.Message}`);
        return;
      }
      for (const { member } of service.members ? [data, data.other].filter(Boolean) : []) {
        members.set(member || NOBODY, (members.get(member || NOBODY) ?? 0) + 1);
      }
    }
    const titles = isGrpc || form.path === pathIs ? [titleOf(form.which), titleOf(form.other)] : ["as written", titleOf(form.other)];
    showAnswer(data, { service: service.name, isGrpc, titles, members });
    remember(form, data, isGrpc, members);
  } catch {
    showProblem("Not sent: the sandbox cloud does not answer.");
  } finally {
    busy(false);
  }
}

const titleOf = (value) => value.replace(":", " ");

// ---- history -------------------------------------------------------------------------------------------------------

// Only in this page's memory: bodies may be anything.
function remember(form, answer, isGrpc, members) {
  const shares = [...members].map(([member, answered]) => `${member} ${answered}`).join(", ");
  history.unshift({ number: ++count, time: new Date(), form, isGrpc, shares, answers: [answer, answer.other].filter(Boolean) });
  let letters = 0;
  history = history.filter(({ form: { body } }, index) => index < KEPT_REQUESTS && (letters += body.length) <= KEPT_LETTERS);
  showHistory();
}

const latency = (answer) => (answer.problem ? "no answer" : `${(answer.seconds * 1000).toFixed(1)} ms`);

function statusOf(answer, isGrpc) {
  const ok = answer.status === 200;
  const text = answer.status === 0 ? "none" : isGrpc ? (ok ? "OK" : "error") : `${answer.status}`;
  return chip(text, ok ? "good" : "bad");
}

function showHistory() {
  $("history").hidden = history.length === 0;
  const times = history.flatMap(({ answers }) => answers).filter(({ status }) => status === 200)
    .map(({ seconds }) => seconds * 1000).sort((a, b) => a - b);
  const middle = times.length ? times[Math.floor((times.length - 1) / 2)].toFixed(1) : "";
  $("latency").textContent = times.length > 1
    ? `${times.length} good answers: ${times[0].toFixed(1)} to ${times.at(-1).toFixed(1)} ms, median ${middle} ms` : "";
  refill($("requests"), `${history.map(({ number }) => number)}`, () => history.map((entry) => {
    const { form, answers, isGrpc, number, time, shares } = entry;
    const what = isGrpc ? `${form.model}, ${titleOf(form.which)}` : form.path;
    const versus = form.other ? ` against ${titleOf(form.other)}` : "";
    const title = `request ${number}, ${form.service} ${what}${versus}`;
    return h("li", { class: "row" },
      h("div", { class: "what" },
        h("div", {}, h("span", { class: "hint" }, `${time.toLocaleTimeString()} `), form.service),
        h("div", { class: "mono" }, `${what}${versus}`),
        answers.map((answer) => h("div", { class: "result" }, statusOf(answer, isGrpc),
          h("span", {}, latency(answer)),
          answer.version === null ? null : h("span", { class: "hint" }, `version ${answer.version}`))),
        shares ? h("div", { class: "hint" }, `${form.times === "1" ? "answered by" : `${form.times} times:`} ${shares}`) : null),
      h("button", {
        type: "button", class: "quiet", "aria-label": `Repeat ${title}`, "data-key": `repeat/${number}`,
        onclick: () => again(entry),
      }, "Repeat"));
  }));
}

// The same request once more: the form is as it was then.
function again({ form }) {
  if (isBusy()) return;
  bodyIs = form.bodyIs;
  choose({ service: form.service, model: form.model, which: form.which });
  if (fields.service.value !== form.service) {
    showProblem(`Not sent: service ${form.service} is not there any more.`);
    return;
  }
  // A version that is gone since is asked for nevertheless: the server says what it thinks of it.
  for (const [select, value] of [[fields.model, form.model], [fields.which, form.which], [fields.other, form.other]]) {
    if (value && select.value !== value) {
      select.append(h("option", { value }, titleOf(value)));
      select.dataset.digest = "";
    }
    select.value = value;
  }
  asked += 1; // an answer about the signature must not change the body any more
  fields.body.value = form.body;
  fields.path.value = form.path;
  $("times").value = form.times;
  send();
}

// ---- start ---------------------------------------------------------------------------------------------------------

export function startDebugging() {
  fields.body.value = DOCUMENT_BODY;
  fields.service.addEventListener("change", () => {
    choose({ service: fields.service.value });
    listeners.forEach((listener) => listener());
  });
  fields.model.addEventListener("change", () => choose({ model: fields.model.value, which: LATEST }));
  fields.which.addEventListener("change", () => choose({ which: fields.which.value }));
  fields.signature.addEventListener("change", () => {
    bodyIs = "signature";
    askSignature();
  });
  fields.body.addEventListener("input", () => { bodyIs = "own"; });
  $("made").addEventListener("click", () => {
    bodyIs = "signature";
    askSignature();
  });
  $("reset").addEventListener("click", () => {
    bodyIs = "document";
    fields.body.value = DOCUMENT_BODY;
    askSignature();
  });
  $("clear").addEventListener("click", () => {
    history = [];
    showHistory();
    fields.send.focus();
  });
  $("request").addEventListener("submit", send);
  $("request").addEventListener("keydown", (event) => {
    if (event.key === "Enter" && event.ctrlKey) $("request").requestSubmit();
  });
}
