// The few DOM operations that the page is made of. Text only ever becomes text nodes.

type Attributes = Readonly<Record<string, string | undefined>>;

/** An element with attributes (undefined ones are left out) and children. */
export function element(
  name: string,
  attributes: Attributes = {},
  ...children: readonly (Node | string)[]
): HTMLElement {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) {
    if (value !== undefined) made.setAttribute(key, value);
  }
  made.append(...children);
  return made;
}

/** The element that index.html has under this id. */
export function byId(id: string): HTMLElement {
  const found = document.getElementById(id);
  if (found === null) throw new Error(`index.html lacks #${id}`);
  return found;
}

/** The same, of a certain kind. */
export function byIdOf<T extends HTMLElement>(kind: new () => T, id: string): T {
  const found = byId(id);
  if (!(found instanceof kind)) throw new Error(`#${id} is not a ${kind.name}`);
  return found;
}

/** Sets the text when it differs: a live region would read it out again otherwise. */
export function setText(node: Node, text: string): void {
  if (node.textContent !== text) node.textContent = text;
}

export interface Row {
  readonly key: string;
  /** Changes exactly when the row looks different. */
  readonly look: string;
  readonly render: () => HTMLElement;
}

/** Makes the children of `parent` these rows; unchanged ones stay as they are, with their focus and selection. */
export function showRows(parent: HTMLElement, rows: readonly Row[]): void {
  const old = new Map([...parent.children].map((child) => [child.getAttribute('data-key'), child]));
  rows.forEach((row, index) => {
    const before = old.get(row.key);
    old.delete(row.key);
    const child = before?.getAttribute('data-look') === row.look ? before : renderRow(row);
    if (before !== undefined && before !== child) replaceKeepingFocus(before, child);
    if (parent.children[index] !== child) parent.insertBefore(child, parent.children[index] ?? null);
  });
  for (const gone of old.values()) gone.remove();
}

function renderRow(row: Row): HTMLElement {
  const made = row.render();
  made.setAttribute('data-key', row.key);
  made.setAttribute('data-look', row.look);
  return made;
}

function replaceKeepingFocus(before: Element, after: Element): void {
  const focused = before.contains(document.activeElement)
    ? document.activeElement?.getAttribute('href')
    : null;
  before.replaceWith(after);
  if (focused == null) return;
  for (const link of after.querySelectorAll('a')) if (link.getAttribute('href') === focused) link.focus();
}
