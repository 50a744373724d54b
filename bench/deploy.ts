// What a deploy costs beyond `nix copy` and the activation, and how fifty hosts compare with one, on real booted test
// hosts of this machine. Side by side: the two lines of shell that people write, and deploy-rs where SLIPWAY_DEPLOY_RS
// names a folder with its programs. `npm run bench:deploy -- --json`: the last line is one JSON object.
import { availableParallelism, loadavg } from 'node:os';
import { parseArgs } from 'node:util';
import { openBenchFleet, type BenchFleet } from './deploy-fleet.ts';
import { type Cost, deployByHand, deployByRs, deployBySlipway } from './deploy-ways.ts';
import { median, round } from './cache-result.ts';

const LIMITS = { overheadMs: 1_500, fiftyToOne: 3 };

const { values } = parseArgs({
  options: {
    json: { type: 'boolean' },
    rounds: { type: 'string', default: '7' },
    hosts: { type: 'string', default: '50' },
  },
});
const hosts = Number(values.hosts);
await using fleet = await openBenchFleet(hosts);
const one = await measureOne(fleet, Number(values.rounds));
const many = await measureMany(fleet, hosts);
const fiftyToOne = round(many.ms / one.slipway.rolloutMs);
const cores = availableParallelism();
/** All hosts are on this machine: less time than this its processors cannot take; a client with hosts elsewhere takes the second. */
const cpuBoundMs = Math.round((many.clientCpuMs + many.hostCpuMs) / cores);
const clientBoundMs = Math.round(many.clientCpuMs / cores);
const summary = {
  bench: 'deploy',
  ok: one.overheadMs < LIMITS.overheadMs,
  limits: LIMITS,
  one,
  many: {
    hosts,
    ...many,
    toOne: fiftyToOne,
    ok: fiftyToOne < LIMITS.fiftyToOne,
    cores,
    load: loadavg().map(round),
    cpuBoundMs,
    clientBoundMs,
  },
};
console.log(`${hosts} hosts at a time: ${JSON.stringify(summary.many)}`);
if (values.json === true) console.log(JSON.stringify(summary));

/** All ways in turn, so that what else the machine does hits all alike. */
async function measureOne(fleet: BenchFleet, rounds: number) {
  const ways = { slipway: deployBySlipway, byHand: deployByHand, deployRs: deployByRs };
  const costs: Record<keyof typeof ways, Cost[]> = { slipway: [], byHand: [], deployRs: [] };
  for (let index = 0; index < rounds; index++) {
    for (const [name, way] of Object.entries(ways) as [keyof typeof ways, typeof deployByHand][]) {
      const cost = await way(fleet, [fleet.first]);
      if (cost !== undefined) costs[name].push(cost);
    }
    console.log(`round ${index + 1}: ${JSON.stringify(lastOf(costs))}`);
  }
  const slipway = summarise(costs.slipway);
  const byHand = summarise(costs.byHand);
  return {
    rounds,
    slipway,
    byHand,
    ...(costs.deployRs.length > 0 && { deployRs: summarise(costs.deployRs) }),
    /** Rollout time that is neither copying nor activating. */
    overheadMs: Math.round(median(costs.slipway.map(({ rolloutMs, outsideMs }) => rolloutMs - outsideMs))),
    /** The whole command, with its start and the evaluation, against the two lines of shell. */
    beyondByHandMs: Math.round(slipway.ms - byHand.ms),
  };
}

async function measureMany(fleet: BenchFleet, count: number) {
  const cost = await deployBySlipway(fleet, fleet.names.slice(0, count));
  return { ms: Math.round(cost.rolloutMs), clientCpuMs: cost.clientCpuMs, hostCpuMs: cost.hostCpuMs };
}

function summarise(costs: readonly Cost[]) {
  const of = (key: keyof Cost): number => Math.round(median(costs.map((cost) => cost[key])));
  return {
    ms: of('ms'),
    rolloutMs: of('rolloutMs'),
    clientCpuMs: of('clientCpuMs'),
    hostCpuMs: of('hostCpuMs'),
  };
}

function lastOf(costs: Record<string, readonly Cost[]>): Record<string, number> {
  return Object.fromEntries(
    Object.entries(costs).flatMap(([name, all]) => {
      const last = all.at(-1);
      return last === undefined ? [] : [[name, Math.round(last.ms)]];
    }),
  );
}
