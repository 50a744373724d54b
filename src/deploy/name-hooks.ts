// Hooks and what became of them, as people read it.
import type { HookResult } from '../api/deploy-hooks.ts';

/** `backup (exit 3), tell (no end)` */
export function nameHooks(results: readonly HookResult[]): string {
  return results.map(({ name, exit }) => `${name} (${exit === -1 ? 'no end' : `exit ${exit}`})`).join(', ');
}
