// Light or dark: what the system prefers, unless the button says otherwise. Runs before the first paint, and so is a
// plain script. The choice is kept in localStorage; a browser that forbids that forgets it with the tab.
(() => {
  "use strict";
  const KEY = "hearken.theme";
  const CHOICES = ["auto", "light", "dark"];
  const systemIsDark = matchMedia("(prefers-color-scheme: dark)");

  function kept() {
    try {
      const choice = localStorage.getItem(KEY);
      return CHOICES.includes(choice) ? choice : "auto";
    } catch {
      return "auto";
    }
  }

  function keep(choice) {
    try {
      localStorage.setItem(KEY, choice);
    } catch {
      // Nothing to be done; the choice holds until the tab is closed.
    }
  }

  let choice = kept();

  function apply() {
    const dark = choice === "dark" || (choice === "auto" && systemIsDark.matches);
    document.documentElement.dataset.theme = dark ? "dark" : "light";
    dispatchEvent(new Event("themechange"));
  }

  function label(button) {
    button.textContent = `Theme: ${choice}`;
  }

  apply();
  systemIsDark.addEventListener("change", apply);
  document.addEventListener("DOMContentLoaded", () => {
    const button = document.getElementById("theme");
    label(button);
    button.addEventListener("click", () => {
      choice = CHOICES[(CHOICES.indexOf(choice) + 1) % CHOICES.length];
      keep(choice);
      apply();
      label(button);
    });
  });
})();
