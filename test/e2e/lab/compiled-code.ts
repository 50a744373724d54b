// Where compiled modules are kept between runs: where bin/slipway keeps them too. Hundreds of processes load the same
// modules, and each would compile them anew.
import { homedir } from 'node:os';
import path from 'node:path';

export function compiledCode(): string {
  const cache = process.env['XDG_CACHE_HOME'] ?? path.join(homedir(), '.cache');
  return process.env['NODE_COMPILE_CACHE'] ?? path.join(cache, 'slipway', 'compiled');
}
