// Times, durations and Nix names as people read them.

/** `840 ms`, `3.2 s`, `4 min 05 s`, `2 h 10 min`. */
export function formatDuration(ms: number): string {
  if (ms < 1000) return `${Math.max(0, Math.round(ms))} ms`;
  if (ms < 60_000) return `${(ms / 1000).toFixed(1)} s`;
  const seconds = Math.round(ms / 1000);
  if (seconds < 3600) return `${Math.floor(seconds / 60)} min ${two(seconds % 60)} s`;
  return `${Math.floor(seconds / 3600)} h ${two(Math.floor((seconds % 3600) / 60))} min`;
}

/** `just now`, `40 s ago`, `5 min ago`, `3 h ago`, `2 days ago`. */
export function formatAgo(at: string, now: number): string {
  const seconds = Math.max(0, Math.round((now - Date.parse(at)) / 1000));
  if (seconds < 5) return 'just now';
  if (seconds < 90) return `${seconds} s ago`;
  if (seconds < 5400) return `${Math.round(seconds / 60)} min ago`;
  if (seconds < 129_600) return `${Math.round(seconds / 3600)} h ago`;
  return `${Math.round(seconds / 86_400)} days ago`;
}

export function shortCommit(commit: string): string {
  return commit.slice(0, 7);
}

/** `/nix/store/<hash>-nixos-system-web1-26.05` -> `web1-26.05`, and as much of the hash as tells two apart. */
export function splitToplevel(toplevel: string): { readonly hash: string; readonly name: string } {
  const base = toplevel.slice(toplevel.lastIndexOf('/') + 1);
  return { hash: base.slice(0, 7), name: base.slice(33).replace(/^nixos-system-/, '') };
}

function two(value: number): string {
  return String(value).padStart(2, '0');
}
