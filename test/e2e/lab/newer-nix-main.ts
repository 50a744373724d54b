// Prints a folder for the front of PATH: `nix` and its sisters of the Debian release after the one that the hosts run.
// Whatever test is run with it uses that Nix: PATH="$(node test/e2e/lab/newer-nix-main.ts):$PATH" node --test …
import { join } from 'node:path';
import { builtOnce } from './built-once.ts';

const image = await builtOnce({
  folder: join(import.meta.dirname, 'newer-nix'),
  what: 'a newer Nix in a folder of its own (once, about 15 s)',
});
process.stdout.write(`${join(image, 'bin')}\n`);
