// Small steps in the document.

/** @param {string} id of an element that the page has */
export const element = (id) => /** @type {HTMLElement} */ (document.getElementById(id));

/** A field of a form. @param {string} id */
export const field = (id) => /** @type {HTMLInputElement | HTMLSelectElement} */ (document.getElementById(id));

/**
 * Sets a text if it differs: screen readers would announce an unchanged one again.
 * @param {string | HTMLElement} target an element or its id
 * @param {string} text
 */
export function setText(target, text) {
  const node = typeof target === "string" ? element(target) : target;
  if (node.textContent !== text) node.textContent = text;
}

/**
 * @param {string} tag
 * @param {Record<string, string>} attributes
 * @param {...(Node | string)} children
 */
export function create(tag, attributes = {}, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, value);
  node.append(...children);
  return node;
}
