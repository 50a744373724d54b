// The house plan as a test: which folder of src/ may import which, which folders are pure, and that no import
// reaches into another folder's subfolder. The table is docs/ARCHITECTURE.md's; change both together.
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { globSync } from 'node:fs';
import path from 'node:path';
import { test } from 'node:test';
import { parseSync } from 'oxc-parser';

const ROOT = path.join(import.meta.dirname, '..');

const MAY_IMPORT: Readonly<Record<string, readonly string[]>> = {
  util: [],
  nix: ['util'],
  content: ['util'],
  age: ['util'],
  api: ['util', 'nix'],
  effects: ['util', 'nix', 'api'],
  storage: ['util'],
  auth: ['util', 'api', 'storage'],
  cache: ['util', 'nix', 'content', 'api', 'storage', 'auth'],
  client: ['util', 'nix', 'content', 'api', 'effects'],
  secrets: ['util', 'age', 'api', 'effects'],
  deploy: ['util', 'nix', 'api', 'effects'],
  agent: ['util', 'nix', 'api', 'effects', 'client', 'deploy'],
  pipeline: ['util', 'nix', 'api', 'effects', 'client', 'secrets', 'deploy'],
  fleet: ['util', 'nix', 'api', 'storage', 'auth'],
  http: ['util', 'nix', 'api', 'auth', 'cache', 'fleet'],
  web: ['api'],
  cli: ['*'],
};

/** Folders without any I/O: they compute. */
const PURE = new Set(['util', 'nix', 'content', 'age', 'api']);
const PURE_BUILTINS = new Set([
  'node:crypto',
  'node:zlib',
  'node:buffer',
  'node:util',
  'node:assert',
  'node:stream',
]);

/** Parts of the server: they can start no process. */
const NO_PROCESS = new Set(['storage', 'auth', 'cache', 'fleet', 'http', 'web']);

interface Import {
  readonly file: string;
  readonly target: string;
}

const imports = globSync('src/**/*.{ts,tsx}', { cwd: ROOT })
  .filter((file) => !/\.(test|arbitrary|contract)\.ts$/.test(file))
  .flatMap(importsOf);

function importsOf(file: string): Import[] {
  const parsed = parseSync(file, readFileSync(path.join(ROOT, file), 'utf8'));
  assert.deepEqual(parsed.errors, [], file);
  const fixed = parsed.module.staticImports.map((found) => found.moduleRequest.value);
  const reexported = parsed.module.staticExports.flatMap((statement) =>
    statement.entries.flatMap((entry) => (entry.moduleRequest ? [entry.moduleRequest.value] : [])),
  );
  const source = readFileSync(path.join(ROOT, file), 'utf8');
  const dynamic = [...source.matchAll(/\bimport\(\s*'([^']+)'/g)].map((match) => match[1] ?? '');
  return [...fixed, ...reexported, ...dynamic].map((target) => ({ file, target }));
}

const folderOf = (file: string): string => file.split(path.sep)[1] ?? '';

function local(found: Import): string | undefined {
  if (!found.target.startsWith('.')) return undefined;
  return path.normalize(path.join(path.dirname(found.file), found.target));
}

test('every folder of src is in the table', () => {
  const folders = new Set(imports.map((found) => folderOf(found.file)));
  assert.deepEqual(
    [...folders].filter((folder) => !(folder in MAY_IMPORT)),
    [],
  );
});

test('imports only follow the table', () => {
  const wrong = imports.filter((found) => {
    const target = local(found);
    if (target === undefined) return false;
    const [from, to] = [folderOf(found.file), folderOf(target)];
    const allowed = MAY_IMPORT[from] ?? [];
    return from !== to && !allowed.includes('*') && !allowed.includes(to);
  });
  assert.deepEqual(wrong, []);
});

test("no import reaches into another folder's subfolder", () => {
  const wrong = imports.filter((found) => {
    const target = local(found);
    if (target === undefined) return false;
    const [from, to] = [folderOf(found.file), folderOf(target)];
    return from !== to && from !== 'cli' && target.split(path.sep).length > 3;
  });
  assert.deepEqual(wrong, []);
});

test('pure folders do no I/O', () => {
  const wrong = imports.filter(
    (found) =>
      PURE.has(folderOf(found.file)) && found.target.startsWith('node:') && !PURE_BUILTINS.has(found.target),
  );
  assert.deepEqual(wrong, []);
});

test('the server parts cannot start a process', () => {
  const wrong = imports.filter(
    (found) => NO_PROCESS.has(folderOf(found.file)) && found.target === 'node:child_process',
  );
  assert.deepEqual(wrong, []);
});

test('the import table has no circle', () => {
  const visit = (folder: string, trail: readonly string[]): void => {
    assert.ok(!trail.includes(folder), [...trail, folder].join(' -> '));
    for (const next of MAY_IMPORT[folder] ?? []) if (next !== '*') visit(next, [...trail, folder]);
  };
  for (const folder of Object.keys(MAY_IMPORT)) visit(folder, []);
});
