// JSON from outside, for whoever checks its shape next and tells what is wrong in words of its own.

/** What the text says; `undefined`, which no JSON is, for anything that is not JSON. */
export function parseJson(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}
