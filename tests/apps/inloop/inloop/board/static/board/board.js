// Makes the front page's two forms answer in place, and shows whether the
// servers behind it are well. nginx sends this file, never Django.

"use strict";

const element = (id) => document.getElementById(id);

/** Posts a form; resolves to the response's status and parsed JSON body. */
async function post(form) {
  const response = await fetch(form.action, {
    method: "POST",
    body: new URLSearchParams(new FormData(form)),
  });
  return { status: response.status, body: await response.json() };
}

/** Runs `work` on submit instead of leaving the page, once at a time. */
function onSubmit(form, work) {
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    const button = form.querySelector("button");
    button.disabled = true;
    try {
      await work();
    } catch (error) {
      alert(`That did not work: ${error.message}`);
    } finally {
      button.disabled = false;
    }
  });
}

/** One row of the board; text stays text, whatever somebody typed. */
function row(text) {
  const now = new Date();
  const time = document.createElement("time");
  time.dateTime = now.toISOString();
  time.textContent = now.toISOString().slice(0, 16).replace("T", " ");
  const item = document.createElement("li");
  item.append(time, " ", text);
  return item;
}

async function showHealth() {
  const place = element("health");
  try {
    const response = await fetch(place.dataset.url);
    const parts = await response.json();
    const failed = Object.keys(parts).filter((part) => !parts[part]);
    place.textContent = failed.length === 0 ? "good" : `no ${failed.join(", ")}`;
  } catch {
    place.textContent = "unknown";
  }
}

const add = element("add");
onSubmit(add, async () => {
  const text = element("text").value;
  const { status, body } = await post(add);
  if (status !== 201) {
    throw new Error(body.errors?.text?.[0] ?? `status ${status}`);
  }
  element("count").textContent = body.count;
  element("entries").prepend(row(text));
  add.reset();
});

const run = element("run");
onSubmit(run, async () => {
  element("job").textContent = "waiting for a worker…";
  const { body } = await post(run);
  element("job").textContent = JSON.stringify(body, null, 2);
});

showHealth();
