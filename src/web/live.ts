// The connection to GET /events. The browser reconnects by itself and tells its last event id; a server that went away
// and came back, or a session that ended, is told apart by asking once.
import type { LiveMessage } from '../api/fleet-status.ts';

export interface LiveHandlers {
  readonly onMessage: (message: LiveMessage) => void;
  readonly onState: (state: 'live' | 'reconnecting') => void;
}

const NAMES = ['snapshot', 'repository', 'host', 'run', 'event'] as const;
const RETRY_MS = 3_000;

export function connectLive(handlers: LiveHandlers): void {
  const source = new EventSource('/events');
  source.addEventListener('open', () => handlers.onState('live'));
  for (const name of NAMES) {
    source.addEventListener(name, (event: MessageEvent<string>) =>
      handlers.onMessage({ name, data: JSON.parse(event.data) }),
    );
  }
  source.addEventListener('error', () => {
    handlers.onState('reconnecting');
    // CLOSED: the answer was no stream (an error, a login); the browser does not try again by itself.
    if (source.readyState === EventSource.CLOSED) setTimeout(() => void reconnect(handlers), RETRY_MS);
  });
}

async function reconnect(handlers: LiveHandlers): Promise<void> {
  const answer = await fetch('/api/v1/status', { method: 'GET' }).catch(() => undefined);
  if (answer?.status === 401) location.assign('/login');
  else connectLive(handlers);
}
