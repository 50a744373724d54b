// Preload for a program under test: when it ends, writes the URL of every module that it loaded to the file that
// RECORD_MODULES names, one a line.
import { writeFileSync } from 'node:fs';
import { registerHooks } from 'node:module';

const loaded = new Set<string>();
const target = process.env['RECORD_MODULES'] ?? '';

registerHooks({
  load: (url, context, nextLoad) => {
    loaded.add(url);
    return nextLoad(url, context);
  },
});

process.on('exit', () => writeFileSync(target, [...loaded].toSorted().join('\n')));
