"use strict";
(() => {
  const find = (id) => document.getElementById(id);
  const [form, button, status, problem] = ["form", "draw", "status", "problem"].map(find);
  const numbers = new Set(["seed", "steps", "guidance"]);

  const wanted = () => {
    const values = {};
    for (const [name, text] of new FormData(form)) {
      if (text.trim()) values[name] = numbers.has(name) ? Number(text) : text.trim();
    }
    return values;
  };

  const complain = (text) => {
    problem.textContent = text;
    problem.hidden = !text;
  };

  const reason = async (answer) => {
    const said = await answer.json().catch(() => ({}));
    if (Array.isArray(said.detail)) return said.detail.map((one) => `${one.loc.at(-1)}: ${one.msg}`).join("; ");
    return said.detail || `The server answered ${answer.status}.`;
  };

  const element = (kind, values, ...children) => {
    const made = Object.assign(document.createElement(kind), values);
    made.append(...children);
    return made;
  };

  const showVersion = async () => {
    const ready = await (await fetch("readyz")).json();
    find("version").textContent = ready.version;
    find("digest").textContent = ready.digest.slice(0, 12);
    return ready;
  };

  const show = async (answer, asked, seconds) => {
    const url = URL.createObjectURL(await answer.blob());
    const seed = answer.headers.get("boothline-seed");
    const digest = answer.headers.get("boothline-model").slice(0, 12);
    const link = element("a", { href: url, download: `${digest}-${seed}.png`, textContent: "Save" });
    const again = element("button", { type: "button", textContent: "Use this seed" });
    again.addEventListener("click", () => { form.elements.seed.value = seed; });
    const facts = `seed ${seed}, model ${digest}, ${seconds.toFixed(1)} s `;
    find("drawn").prepend(
      element("figure", { className: "drawn" },
        element("img", { src: url, alt: asked.prompt }),
        element("figcaption", { className: "caption" }, `${asked.prompt}: ${facts}`, link, " ", again)));
  };

  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    const asked = wanted();
    const started = performance.now();
    complain("");
    button.disabled = true;
    status.textContent = "Drawing ...";
    try {
      const answer = await fetch("generate", {
        method: "POST",
        headers: { "Content-Type": "application/json" },
        body: JSON.stringify(asked),
      });
      if (answer.ok) await show(answer, asked, (performance.now() - started) / 1000);
      else complain(await reason(answer));
      await showVersion();
    } catch (error) {
      complain(`The server does not answer: ${error.message}`);
    } finally {
      button.disabled = false;
      status.textContent = "";
    }
  });
})();
