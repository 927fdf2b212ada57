// Shows /openapi.json to people. Everything is written as text, never as markup.
"use strict";

const make = (tag, text, ...children) => {
  const element = document.createElement(tag);
  if (text) element.textContent = text;
  element.append(...children);
  return element;
};

const table = (heads, rows) => {
  const head = make("tr", "", ...heads.map((text) => make("th", text)));
  const body = rows.map((cells) => make("tr", "", ...cells.map((cell) => cell instanceof Node ? make("td", "", cell) : make("td", cell))));
  return make("table", "", make("thead", "", head), make("tbody", "", ...body));
};

// What stands behind a reference, to a bounded depth: schemas may name themselves.
const resolve = (document_, node, depth) => {
  if (depth > 8 || node === null || typeof node !== "object") return node;
  if (Array.isArray(node)) return node.map((item) => resolve(document_, item, depth + 1));
  if (typeof node.$ref === "string") {
    const target = node.$ref.split("/").slice(1).reduce((at, key) => at?.[key], document_);
    return resolve(document_, target, depth + 1);
  }
  return Object.fromEntries(Object.entries(node).map(([key, value]) => [key, resolve(document_, value, depth + 1)]));
};

const folded = (title, value) =>
  make("details", "", make("summary", title), make("pre", typeof value === "string" ? value : JSON.stringify(value, null, 2)));

const contents = (document_, content) => Object.entries(content ?? {}).flatMap(([kind, media]) => {
  const examples = Object.values(media.examples ?? {}).map((one) => folded(`${kind}: ${one.summary}`, one.value));
  return [...examples, folded(`${kind}: schema`, resolve(document_, media.schema ?? {}, 0))];
});

// What a parameter may be, in a few words.
const kindOf = (schema) => {
  if (!schema) return "";
  if (schema.type === "array") return `${kindOf(schema.items)}, …`;
  if (schema.enum) return schema.enum.join(" | ");
  const bounds = schema.minimum !== undefined && schema.maximum !== undefined && schema.maximum < 1e9 ? ` ${schema.minimum} to ${schema.maximum}` : "";
  return (schema.format && schema.type === "string" ? schema.format : schema.type ?? "") + bounds;
};

const operation = (document_, path, method, what) => {
  const id = `${method}-${path}`.replace(/[^a-z0-9]+/gi, "-");
  const title = make("h2", "", make("span", method.toUpperCase()), make("code", path));
  title.firstChild.className = "method";
  const section = make("section", "", title, make("p", what.summary ?? ""), make("p", what.description ?? ""));
  if (!what.security) section.append(make("p", "Needs no token."));
  section.id = id;
  if (what.parameters?.length) {
    section.append(make("h3", "Parameters"), table(["name", "in", "needed", "", ""], what.parameters.map((p) => [p.name, p.in, p.required ? "yes" : "", kindOf(p.schema), p.description ?? ""])));
  }
  if (what.requestBody) section.append(make("h3", "Body"), ...contents(document_, what.requestBody.content));
  const answers = Object.entries(what.responses ?? {}).map(([status, answer]) => {
    const cell = make("div", answer.description, ...contents(document_, answer.content));
    return [status, cell];
  });
  section.append(make("h3", "Answers"), table(["status", ""], answers));
  const link = make("a", `${method.toUpperCase()} ${path}`);
  link.href = `#${id}`;
  return { section, entry: make("li", "", link) };
};

const show = async () => {
  const main = document.getElementById("operations");
  try {
    const answer = await fetch("/openapi.json");
    const description = await answer.json();
    const all = Object.entries(description.paths).flatMap(([path, item]) =>
      Object.entries(item).map(([method, what]) => operation(description, path, method, what)));
    main.replaceChildren(make("p", description.info.description ?? ""), ...all.map((one) => one.section));
    document.getElementById("index").replaceChildren(make("ul", "", ...all.map((one) => one.entry)));
    if (location.hash) document.getElementById(location.hash.slice(1))?.scrollIntoView();
  } catch (error) {
    main.replaceChildren(make("p", `The description could not be read: ${error.message}`));
  }
};

show();
