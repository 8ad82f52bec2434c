// Light or dark: what was chosen, else what the system says. Runs before anything is drawn.
(function () {
  const root = document.documentElement;
  const system = matchMedia("(prefers-color-scheme: dark)");
  const chosen = () => (document.cookie.match(/(?:^|; )cuaderno-theme=(light|dark|auto)/) || [])[1] || "auto";
  function show() {
    const choice = chosen();
    const dark = choice === "dark" || (choice === "auto" && system.matches);
    root.dataset.theme = choice;
    root.dataset.shown = dark ? "dark" : "light";
    for (const link of document.querySelectorAll("link[data-scheme]")) {
      link.disabled = link.dataset.scheme !== root.dataset.shown;
    }
    if (document.body) {
      document.body.dataset.jpThemeLight = String(!dark);
      document.body.dataset.jpThemeName = dark ? "JupyterLab Dark" : "JupyterLab Light";
      document.body.classList.toggle("theme-dark", dark);
      document.body.classList.toggle("theme-light", !dark);
    }
    const button = document.getElementById("cu-theme");
    if (button) {
      button.textContent = { auto: "Colours: as the system", light: "Colours: light", dark: "Colours: dark" }[choice];
    }
  }
  show();
  system.addEventListener("change", show);
  window.cuShowTheme = show;
  addEventListener("DOMContentLoaded", () => {
    show();
    document.getElementById("cu-theme")?.addEventListener("click", () => {
      const next = { auto: "light", light: "dark", dark: "auto" }[chosen()];
      document.cookie = `cuaderno-theme=${next}; path=/; max-age=31536000; samesite=lax`;
      show();
    });
  });
})();
