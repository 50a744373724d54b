// All releases of a branch with their records of secrets, oldest first, from git alone: for questions about the past.
import { listFirstParents, type LoggedCommit, readBlobs, resolveObjects } from '../effects/git-tree.ts';
import type { ReleaseStep } from '../secrets/exposure.ts';
import { parseSecretsRecord, SECRETS_RECORD_PATH, type SecretsRecord } from '../secrets/secrets-record.ts';
import { SlipwayError } from '../util/errors.ts';

const BATCH = 200;

/** `tip` is the release branch's commit. */
export async function readReleases(repository: string, tip: string): Promise<ReleaseStep[]> {
  const commits = ownCommits(await listFirstParents(repository, tip, 'Slipway-Serial'));
  const names = commits.map(({ commit }) => `${commit}:${SECRETS_RECORD_PATH}`);
  const oids = await resolveObjects(repository, names);
  const records = await readRecords(repository, [...new Set(oids.filter((oid) => oid !== undefined))]);
  return commits
    .map(({ commit, at, value }, index) => {
      const oid = oids[index];
      return { serial: Number(value), commit, at, record: oid === undefined ? undefined : records.get(oid) };
    })
    .toReversed();
}

/** Below the first release come commits of the source, whatever their messages claim. */
function ownCommits(log: readonly LoggedCommit[]): LoggedCommit[] {
  const end = log.findIndex(({ value }, index) => {
    const above = Number(log[index - 1]?.value ?? Infinity);
    return !/^[1-9][0-9]*$/.test(value) || Number(value) >= above;
  });
  const own = end < 0 ? log : log.slice(0, end);
  const first = own.findIndex(({ value }) => value === '1');
  return first < 0 ? [...own] : own.slice(0, first + 1);
}

/** Most releases share their record with the one before: each is read once. */
async function readRecords(
  repository: string,
  oids: readonly string[],
): Promise<ReadonlyMap<string, SecretsRecord>> {
  const records = new Map<string, SecretsRecord>();
  for (let from = 0; from < oids.length; from += BATCH) {
    const some = oids.slice(from, from + BATCH);
    const files = await readBlobs(repository, some);
    for (const [index, oid] of some.entries()) {
      const record = parseSecretsRecord(files[index] ?? Buffer.alloc(0));
      if (record === undefined) throw strange(oid);
      records.set(oid, record);
    }
  }
  return records;
}

function strange(oid: string): SlipwayError {
  return new SlipwayError('invalid', `The record ${oid} of an earlier release cannot be read.`, {
    next: `Look at it: git cat-file blob ${oid}. A newer Slipway may have written it.`,
  });
}
