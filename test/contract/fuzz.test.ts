// A moment of fuzzing for each parser, always with the same inputs, and every input that was once a finding.
// To look for new ones: npm run fuzz -- all --seconds 60
import assert from 'node:assert/strict';
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { fuzz, SHARED_BYTES } from '../../scripts/fuzz/fuzz-loop.ts';
import { tryInput } from '../../scripts/fuzz/fuzz-target.ts';
import { TARGETS } from '../../scripts/fuzz/targets.ts';

const SECONDS = Number(process.env['SLIPWAY_FUZZ_SECONDS'] ?? 0.05);
const VECTORS = join(import.meta.dirname, '../vectors/fuzz');

for (const target of TARGETS)
  test(`the parser ${target.name} refuses or reads whatever it is given`, async () => {
    const folder = join(VECTORS, target.name);
    for (const name of existsSync(folder) ? readdirSync(folder) : [])
      assert.equal(await tryInput(target, readFileSync(join(folder, name))), undefined, name);
    const shared = new SharedArrayBuffer(SHARED_BYTES);
    const { findings, iterations } = await fuzz(target, {
      name: target.name,
      seconds: SECONDS,
      seed: 1,
      shared,
    });
    assert.ok(iterations > 0);
    assert.deepEqual(
      findings.map(({ what }) => what),
      [],
    );
  });
