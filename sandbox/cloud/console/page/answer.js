// One answer, or two beside each other with their difference. Numbers are shown as the server wrote them: bars and
// differences come worked out, and no number of an answer ever becomes one of JavaScript's.

import { $, chip, h, plural, problem } from "./dom.js";

const FASHION_MNIST = [
  "T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot",
];

// How many classes have names: with names, numbers from 0 to 1 need not add up to 1 to be shown as bars.
export const namedClasses = () => (classNames(null) ?? []).length;

export function showProblem(text) {
  $("answer").replaceChildren(h("p", { class: "notice" }, text));
}

export function showAnswer(answer, { service, isGrpc, titles, members }) {
  const one = part(answer, service, isGrpc, answer.other ? titles[0] : "");
  const shared = shares(members);
  if (!answer.other) {
    $("answer").replaceChildren(...shared, ...one);
    return;
  }
  $("answer").replaceChildren(
    ...shared,
    difference(answer.difference, titles),
    h("div", { class: "sides" },
      h("section", { "aria-label": `Answer of ${titles[0]}` }, one),
      h("section", { "aria-label": `Answer of ${titles[1]}` }, part(answer.other, service, isGrpc, titles[1]))));
}

// Which services of a group answered how many of several requests; the answer below it is the last one.
function shares(members) {
  const total = [...members.values()].reduce((sum, answered) => sum + answered, 0);
  if (total < 2) return [];
  return [h("table", { class: "bars shares" },
    h("caption", { class: "hint" }, `${total} answers, the last one below`),
    h("thead", { class: "hidden" }, h("tr", {}, ["Service", "Bar", "Answers"].map((text) => h("th", { scope: "col" }, text)))),
    h("tbody", {}, [...members].map(([member, answered]) => {
      const fill = h("div");
      fill.style.width = `${(100 * answered) / total}%`;
      return h("tr", {}, h("th", { scope: "row" }, member),
        h("td", { "aria-hidden": "true" }, h("div", { class: "bar" }, fill)),
        h("td", { class: "value" }, `${answered} of ${total}`));
    })))];
}

function part(answer, service, isGrpc, title) {
  const head = title ? h("h4", {}, title) : null;
  if (answer.problem) return [head, h("p", { class: "notice" }, `${service}: ${answer.problem}`)].filter(Boolean);
  const ok = answer.status === 200;
  const text = indented(answer.body);
  const parts = [head, h("div", { class: "result" },
    chip(isGrpc ? (ok ? "gRPC OK" : "gRPC error") : `HTTP ${answer.status}`, ok ? "good" : "bad"),
    title && !answer.member ? null : h("span", {}, answer.member || service),
    answer.version === null ? null : h("span", {}, `answered by version ${answer.version}`),
    h("span", { class: "hint" }, `${(answer.seconds * 1000).toFixed(1)} ms`))];
  if (!ok) parts.push(problem(said(answer.body) || meaning(answer.status)));
  parts.push(...answer.bars.map(bars));
  const open = !ok && said(answer.body) === "" && answer.body.trim() !== "";
  parts.push(h("details", { open: open || (ok && answer.bars.length === 0 && text.length < 2000) },
    h("summary", {}, answer.truncated ? "Answer (first part)" : "Answer"), h("pre", { tabindex: "0" }, text || "(empty)")));
  return parts.filter(Boolean);
}

// The server's own words about what went wrong.
function said(body) {
  try {
    const { error } = JSON.parse(body);
    return typeof error === "string" ? error : "";
  } catch {
    return body.trim().startsWith("{") ? "" : body.trim();
  }
}

function meaning(status) {
  const known = {
    404: "There is no such path: is the URL right, and does the service speak this protocol?",
    503: "No replica is ready.",
    504: "No answer within the time limit.",
  };
  return known[status] ?? "The answer has no text.";
}

// ---- two answers ---------------------------------------------------------------------------------------------------

function difference(found, [left, right]) {
  if (found.problem) return problem(`Not compared: ${found.problem}.`, "wait");
  const differing = found.outputs.filter((each) => each.differing || each.other.length);
  const verdict = differing.length === 0 ? chip("no difference", "good")
    : chip(`${plural(differing.length, "output")} ${differing.length === 1 ? "differs" : "differ"}`, "wait");
  const classes = found.instances ? h("span", {}, found.agreeing === found.instances ? "same highest class"
    : `same highest class for ${found.agreeing} of ${plural(found.instances, "instance")}`) : null;
  const outputs = h("table", {},
    h("caption", { class: "hidden" }, `Difference of ${left} and ${right} by output`),
    h("thead", {}, h("tr", {}, ["Output", "Values that differ", "Largest difference"]
      .map((text) => h("th", { scope: "col" }, text)))),
    h("tbody", {}, found.outputs.map((each) => h("tr", {},
      h("th", { scope: "row" }, each.output || "the output"), h("td", {}, `${each.differing} of ${each.values}`),
      h("td", {}, each.largest ? [h("span", { class: "mono" }, each.largest),
        h("small", { class: "mono" }, `${each.at ? `at ${each.at}: ` : ""}${each.left} and ${each.right}`)] : "-")))));
  const others = found.outputs.flatMap((each) => each.other.map((text) => h("li", {}, `${each.output || "the output"} ${text}`)));
  const rows = found.instances > 1 || found.agreeing < found.instances ? classTable(found, left, right) : null;
  return h("div", { class: "compared" },
    h("div", { class: "result" }, h("strong", {}, `${left} and ${right}`), verdict, classes),
    differing.length ? outputs : null, others.length ? h("ul", { class: "warnings" }, others) : null, rows);
}

function classTable(found, left, right) {
  const name = ({ index, text }) => [classNames(null)?.[index] ?? `class ${index}`, h("small", { class: "mono" }, text)];
  return h("table", {},
    h("caption", { class: "hidden" }, "Highest class by instance"),
    h("thead", {}, h("tr", {}, ["Highest class of", left, right, ""].map((text) => h("th", { scope: "col" }, text)))),
    h("tbody", {}, found.classes.map((each) => h("tr", {},
      h("td", {}, each.title), h("td", {}, name(each.left)), h("td", {}, name(each.right)),
      h("td", {}, each.left.index === each.right.index ? chip("same", "good") : chip("another", "wait"))))));
}

// ---- bars ----------------------------------------------------------------------------------------------------------

const classNames = (size) => ($("classes").value === "fashion" && (size === null || size === FASHION_MNIST.length)
  ? FASHION_MNIST : null);

function bars({ title, classes, rows }) {
  const names = classNames(classes);
  const caption = [title, "scores of classes", rows.length < classes ? `the highest ${rows.length} of ${classes}` : ""]
    .filter(Boolean).join(", ");
  return h("table", { class: "bars" },
    h("caption", { class: title || rows.length < classes ? "hint" : "hidden" }, caption),
    h("thead", { class: "hidden" }, h("tr", {}, ["Class", "Bar", "Score"].map((text) => h("th", { scope: "col" }, text)))),
    h("tbody", {}, rows.map(({ index, text, share }, place) => {
      const fill = h("div");
      fill.style.width = `${share * 100}%`;
      return h("tr", { class: place === 0 ? "top" : "" },
        h("th", { scope: "row" }, names?.[index] ?? `class ${index}`),
        h("td", { "aria-hidden": "true" }, h("div", { class: "bar" }, fill)),
        h("td", { class: "value" }, text));
    })));
}

// ---- JSON as it was written ----------------------------------------------------------------------------------------

const TOKEN = /"(?:[^"\\]|\\.)*"|[[\]{}:,]|[^\s[\]{}:,"]+/g;

// JSON over several lines, each value as the server wrote it; a list without lists in it stays on one.
function indented(text) {
  if (!/^\s*[[{]/.test(text)) return text;
  const tokens = text.match(TOKEN) ?? [];
  let depth = 0;
  let shown = "";
  let flat = 0; // the token that ends a list that stays on one line
  tokens.forEach((token, index) => {
    if (index < flat) {
      shown += token === "," ? ", " : token;
      return;
    }
    if (index === flat && flat) {
      shown += token;
      flat = 0;
      return;
    }
    const opens = token === "[" || token === "{";
    const closes = token === "]" || token === "}";
    if (token === "[") {
      let end = index + 1;
      while (end < tokens.length && !"[]{}".includes(tokens[end])) end += 1;
      if (tokens[end] === "]") {
        shown += token;
        flat = end;
        return;
      }
    }
    const isEmpty = opens && ["]", "}"].includes(tokens[index + 1]);
    const wasEmpty = closes && ["[", "{"].includes(tokens[index - 1]);
    if (closes && !wasEmpty) shown += `\n${" ".repeat(depth = Math.max(0, depth - 1))}`;
    else if (closes) depth = Math.max(0, depth - 1);
    shown += token;
    if (opens) depth += 1;
    if (opens && !isEmpty) shown += `\n${" ".repeat(depth)}`;
    if (token === ",") shown += `\n${" ".repeat(depth)}`;
    if (token === ":") shown += " ";
  });
  return shown;
}
