// The log of the chosen run: bounded in the page, filtered by host and stage, following the end until the reader
// scrolls up.
import { byId, byIdOf, element } from './dom.ts';
import { parseLogLine } from './log-text.ts';
import type { LogEntry, RunStory } from './run-story.ts';

const MOST_LINES = 2_000;

export class LogView {
  readonly #box = byId('log');
  readonly #host = byIdOf(HTMLSelectElement, 'log-host');
  readonly #stage = byIdOf(HTMLSelectElement, 'log-stage');
  readonly #follow = byIdOf(HTMLInputElement, 'log-follow');
  #story: RunStory | undefined;
  #shown = 0;

  constructor() {
    for (const select of [this.#host, this.#stage]) select.addEventListener('change', () => this.#restart());
    this.#follow.addEventListener('change', () => this.#scroll());
    // Scrolling up stops following, scrolling back to the end follows again.
    this.#box.addEventListener('scroll', () => {
      const { scrollTop, scrollHeight, clientHeight } = this.#box;
      this.#follow.checked = scrollHeight - scrollTop - clientHeight < 24;
    });
  }

  /** Shows another run's log from the start. */
  open(story: RunStory): void {
    this.#story = story;
    this.#follow.checked = true;
    this.#host.value = '';
    this.#stage.value = '';
    this.#restart();
  }

  /** Adds the lines that came since the last call. */
  update(): void {
    const story = this.#story;
    if (!story) return;
    this.#offer(this.#host, story.log, (entry) => entry.host);
    this.#offer(this.#stage, story.log, (entry) => entry.stage);
    const fresh = story.log
      .filter((entry) => entry.seq > this.#shown && this.#wanted(entry))
      .slice(-MOST_LINES);
    this.#shown = story.log.at(-1)?.seq ?? this.#shown;
    if (fresh.length > 0) this.#append(fresh);
    else if (this.#box.childElementCount === 0) this.#box.replaceChildren(emptyLine());
  }

  #restart(): void {
    this.#shown = 0;
    this.#box.replaceChildren();
    this.update();
    this.#scroll();
  }

  #append(entries: readonly LogEntry[]): void {
    const follow = this.#follow.checked;
    this.#box.querySelector('.log-empty')?.remove();
    this.#box.append(...entries.map(logLine));
    while (this.#box.childElementCount > MOST_LINES) this.#box.firstElementChild?.remove();
    if (follow) this.#scroll();
  }

  #scroll(): void {
    if (this.#follow.checked) this.#box.scrollTop = this.#box.scrollHeight;
  }

  #wanted(entry: LogEntry): boolean {
    const { value: host } = this.#host;
    const { value: stage } = this.#stage;
    return (host === '' || host === entry.host) && (stage === '' || stage === entry.stage);
  }

  /** Offers the values that occur; a choice that was made stays. */
  #offer(select: HTMLSelectElement, log: readonly LogEntry[], value: (entry: LogEntry) => string): void {
    const values = [...new Set(log.map(value))].filter((one) => one !== '').toSorted();
    const look = values.join('\n');
    if (select.getAttribute('data-look') === look) return;
    select.setAttribute('data-look', look);
    const chosen = select.value;
    select.replaceChildren(
      ...['', ...values].map((one) => element('option', { value: one }, one === '' ? 'all' : one)),
    );
    select.value = values.includes(chosen) ? chosen : '';
  }
}

function logLine(entry: LogEntry): HTMLElement {
  const from = element('span', { class: 'log-from' }, entry.host === '' ? entry.stage : entry.host);
  const text = element('span', { class: 'log-text' });
  for (const piece of parseLogLine(entry.line)) {
    text.append(
      piece.classes.length === 0
        ? piece.text
        : element('span', { class: piece.classes.join(' ') }, piece.text),
    );
  }
  return element('div', { class: 'log-line' }, from, text);
}

function emptyLine(): HTMLElement {
  return element('div', { class: 'log-empty quiet' }, 'No line yet.');
}
