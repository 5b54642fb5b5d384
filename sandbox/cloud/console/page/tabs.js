// Tabs, as the ARIA pattern has them: arrows, Home and End choose; only the chosen one is in the tab order.

import { $ } from "./dom.js";

const tabs = [...document.querySelectorAll('[role="tab"]')];
const listeners = [];

export const chosenTab = () => tabs.find((tab) => tab.getAttribute("aria-selected") === "true").dataset.tab;

export const onTab = (listener) => listeners.push(listener);

export function chooseTab(name) {
  for (const tab of tabs) {
    const chosen = tab.dataset.tab === name;
    tab.setAttribute("aria-selected", chosen);
    tab.tabIndex = chosen ? 0 : -1;
    $(tab.getAttribute("aria-controls")).hidden = !chosen;
  }
  $("subject").hidden = name === "rollouts";
  listeners.forEach((listener) => listener(name));
}

for (const tab of tabs) {
  tab.addEventListener("click", () => chooseTab(tab.dataset.tab));
  tab.addEventListener("keydown", (event) => {
    const at = tabs.indexOf(tab);
    const to = { ArrowRight: at + 1, ArrowLeft: at - 1, Home: 0, End: tabs.length - 1 }[event.key];
    if (to === undefined) return;
    event.preventDefault();
    const next = tabs[(to + tabs.length) % tabs.length];
    chooseTab(next.dataset.tab);
    next.focus();
  });
}
