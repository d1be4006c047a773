"use strict";
(() => {
  const cards = [...document.querySelectorAll(".card")];
  const tabs = [...document.querySelectorAll(".tabs button")];
  const reasons = document.querySelector("#reason");
  const told = document.querySelector("#shown");
  if (!cards.length || !reasons) return;
  let status = "";

  const fill = () => {
    const counts = new Map();
    for (const card of cards) {
      if ((!status || card.dataset.status === status) && card.dataset.reason) {
        counts.set(card.dataset.reason, (counts.get(card.dataset.reason) || 0) + 1);
      }
    }
    reasons.replaceChildren(new Option("every reason", ""));
    for (const [reason, n] of [...counts].sort((a, b) => b[1] - a[1])) {
      reasons.add(new Option(`${reason} (${n})`, reason));
    }
    reasons.parentElement.hidden = counts.size < 2;
  };
  const show = () => {
    let shown = 0;
    for (const card of cards) {
      const fits = (!status || card.dataset.status === status) && (!reasons.value || card.dataset.reason === reasons.value);
      card.hidden = !fits;
      shown += fits;
    }
    told.textContent = `${shown} shown`;
  };
  for (const tab of tabs) {
    tab.addEventListener("click", () => {
      status = tab.value;
      for (const other of tabs) other.setAttribute("aria-pressed", String(other === tab));
      fill();
      show();
    });
  }
  reasons.addEventListener("change", show);
  document.querySelector("#filters").hidden = false;
  fill();
  show();
})();
