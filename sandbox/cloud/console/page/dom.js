// What all parts of the page use. Text from services and models only ever becomes text nodes.

const TIMEOUT_MS = 10000;

export const $ = (id) => document.getElementById(id);

export function h(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name === "onclick") element.addEventListener("click", value);
    else if (value !== undefined && value !== null && value !== false) {
      element.setAttribute(name, value === true ? "" : value);
    }
  }
  element.append(...children.flat(Infinity).filter((child) => child !== null && child !== undefined && child !== ""));
  return element;
}

export const chip = (text, kind = "") => h("span", { class: `chip ${kind}` }, text);

export function tone(state) {
  if (["Running", "AVAILABLE"].includes(state)) return "good";
  if (["Failed", "FAILED", "DeleteFailed"].includes(state)) return "bad";
  return ["Stopped", "END", "not served"].includes(state) ? "" : "wait";
}

// A look at the cloud. Whole numbers beyond 2^53 arrive as text.
export async function look(name, parameters = {}) {
  const query = new URLSearchParams();
  for (const [key, value] of Object.entries(parameters)) {
    for (const each of Array.isArray(value) ? value : [value]) {
      if (each !== "" && each !== null && each !== undefined && each !== false) query.append(key, each);
    }
  }
  const answer = await fetch(`api/${name}?${query}`, { signal: AbortSignal.timeout(TIMEOUT_MS) });
  const data = await answer.json();
  if (!answer.ok) throw new Refused(data.Message ?? `HTTP ${answer.status}`);
  return data;
}

// The cloud answered, but not with what was asked for.
export class Refused extends Error {}

// Calls `turn` again and again while the page can be seen: `ms` after each end, and later where a turn takes long.
export function repeat(ms, turn) {
  let timer = 0;
  const run = async () => {
    clearTimeout(timer);
    const started = performance.now();
    if (!document.hidden) await turn();
    clearTimeout(timer);
    timer = setTimeout(run, Math.max(ms(), 3 * (performance.now() - started)));
  };
  run();
  return run;
}

// Puts rows in place unless they say what is there already, and gives the focus back to what had it.
export function refill(element, digest, make) {
  if (element.dataset.digest === digest) return;
  element.dataset.digest = digest;
  const focused = element.contains(document.activeElement) ? document.activeElement.dataset.key : undefined;
  element.replaceChildren(...[make()].flat());
  if (focused) element.querySelector(`[data-key="${CSS.escape(focused)}"]`)?.focus({ preventScroll: true });
}

export function options(select, entries, wanted) {
  const digest = JSON.stringify(entries);
  if (select.dataset.digest !== digest) {
    select.dataset.digest = digest;
    select.replaceChildren(...entries.map(([value, text]) => h("option", { value }, text)));
  }
  const values = entries.map(([value]) => value);
  select.value = values.includes(wanted) ? wanted : values[0] ?? "";
}

// "1 to 20 of 300", with buttons where there is more than one page.
export function pager(what, { page, pages, total }, size, turn, key) {
  if (pages <= 1) return null;
  const button = (text, to, name) => h("button", {
    type: "button", class: "quiet", disabled: to < 1 || to > pages, "data-key": `${key}/${name}`,
    "aria-label": `${text} page of ${what}`, onclick: () => turn(to),
  }, text);
  const last = Math.min(page * size, total);
  return h("nav", { class: "pager row", "aria-label": `Pages of ${what}` },
    h("span", { class: "hint" }, `${(page - 1) * size + 1} to ${last} of ${total}`),
    h("span", {}, button("Previous", page - 1, "previous"), " ", button("Next", page + 1, "next")));
}

export const plural = (count, one, many = `${one}s`) => `${count} ${count === 1 ? one : many}`;

export const problem = (text, kind = "bad") => h("p", { class: `problem ${kind}` }, text);
