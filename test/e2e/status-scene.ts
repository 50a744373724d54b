// A fleet as the status page may meet it: hosts in every state, runs that went well and badly, hostile log text.
import type { AgentReport } from '../../src/api/agent-report.ts';
import { STAGES, type HostPhase, type RunEvent, type Stage } from '../../src/api/run-events.ts';
import type { Fleet } from '../../src/fleet/fleet.ts';

export const HOSTILE_LINE =
  '\u001B[31m<script>window.broken=1</script><img src=x onerror="window.broken=1">\u001B[0m';

const COMMITS = [
  '4be1c7a6fd03925e8817aab3c24d96f0e57b1c38',
  '9d1f6a0c4b7e2d83515ce0f9a46b27d8c31e5f70',
  '07aa41c95be2d83f60e1b7c49d52a3f8e61b04dd',
];

/** Plays three runs and two agents' reports; the last run is still under way. */
export async function playScene(fleet: Fleet): Promise<void> {
  const [first = '', second = '', third = ''] = COMMITS;
  await playRun(fleet, first, [...goodRun()]);
  await fleet.endRun('1', {
    state: 'done',
    note: 'Release 11 is live on 2 of 2 hosts.',
    release: first,
    serial: 11,
  });
  await playRun(fleet, second, [...badRun()]);
  await fleet.endRun('2', {
    state: 'failed',
    note: 'web1 was rolled back: its unit hello.service did not come up.',
    problem: ROLLED_BACK,
  });
  await playRun(fleet, third, [...runUnderWay()]);
  await fleet.recordReport(
    report('pi1', { health: 'progressing', operation: 'substituting', sync: 'out-of-sync' }),
  );
  await fleet.recordReport(
    report('pi2', { quarantined: [{ toplevel: toplevel('pi2', 9), reason: 'unreachable', at: now() }] }),
  );
}

const ROLLED_BACK = {
  code: 'deploy_rolled_back',
  message:
    'web1: the trial was rolled back, because hello.service failed within 5 s of its start.\nhello[812]: cannot bind to port 8080: Address already in use',
  next: 'ssh root@web1 journalctl -u hello.service -n 50',
};

async function playRun(fleet: Fleet, commit: string, events: readonly RunEvent[]): Promise<void> {
  await fleet.hearOfCommit({
    repository: 'homelab',
    branch: 'main',
    commit,
    trigger: 'webhook',
    delivery: commit,
  });
  const run = await fleet.claimRun('homelab');
  fleet.recordLook('homelab', { head: commit });
  await fleet.recordEvents(run?.id ?? '', events);
}

function* goodRun(): Generator<RunEvent> {
  yield* stages(['evaluate', 'rekey', 'build', 'test', 'cache', 'publish'], 412);
  yield { kind: 'stage-started', at: now(), stage: 'deploy' };
  yield host('web1', 'committed', 1);
  yield host('pi1', 'awaiting-agent', 1);
  yield host('forge1', 'manual', 1, 'Kept by hand, as its configuration says.');
  yield { kind: 'stage-finished', at: now(), stage: 'deploy', outcome: 'ok', ms: 3120 };
  yield { kind: 'run-finished', at: now(), outcome: 'done', note: 'Release 11 is live.', ms: 6240 };
}

function* badRun(): Generator<RunEvent> {
  yield* stages(['evaluate', 'rekey', 'build', 'test', 'cache', 'publish'], 380);
  for (const [name, ms, outside] of [
    ['nix eval', 1210, true],
    ['nix build', 2300, true],
    ['ssh', 640, true],
    ['health window', 5000, true],
    ['slipway', 790, false],
  ] as const) {
    yield { kind: 'span', at: now(), name, ms, outside };
  }
  yield { kind: 'stage-started', at: now(), stage: 'deploy' };
  for (const line of LOG_LINES) yield { kind: 'log', at: now(), stage: 'deploy', host: 'web1', line };
  yield host('web1', 'rolled-back', 2, 'hello.service failed; the system before runs again.');
  yield host('pi1', 'awaiting-agent', 2);
  yield { kind: 'problem', at: now(), stage: 'deploy', host: 'web1', ...ROLLED_BACK };
  yield { kind: 'stage-finished', at: now(), stage: 'deploy', outcome: 'failed', ms: 8900 };
  yield { kind: 'run-finished', at: now(), outcome: 'failed', note: 'web1 was rolled back.', ms: 9940 };
}

function* runUnderWay(): Generator<RunEvent> {
  yield* stages(['evaluate', 'rekey'], 350);
  yield { kind: 'stage-started', at: now(), stage: 'build' };
  yield host('web1', 'building', 3);
  yield host('pi1', 'deferred', 3, 'No builder for aarch64-linux: pi1 builds it itself.');
  for (let step = 1; step <= 60; step++) {
    yield {
      kind: 'log',
      at: now(),
      stage: 'build',
      host: 'web1',
      line: `\u001B[34mhello>\u001B[0m [${step}/60] compiling unit \u001B[1mgreeting-${step}.c\u001B[0m`,
    };
  }
  yield { kind: 'log', at: now(), stage: 'build', host: 'web1', line: HOSTILE_LINE };
}

const LOG_LINES = [
  'copying 3 paths (1.2 MB) to ssh-ng://root@web1',
  'activating the configuration...',
  'setting up /etc...',
  'reloading user units for root...',
  'starting the following units: \u001B[1mhello.service\u001B[0m',
  '\u001B[33mwarning:\u001B[0m the following units failed: \u001B[31mhello.service\u001B[0m',
  '× hello.service - Greeting over HTTP',
  '     Loaded: loaded (/etc/systemd/system/hello.service; enabled; preset: enabled)',
  '     Active: \u001B[31;1mfailed\u001B[0m (Result: exit-code) since Sat 2026-11-21 08:00:02 UTC; 34ms ago',
  'rolling back to generation 4',
];

function* stages(names: readonly Stage[], ms: number): Generator<RunEvent> {
  for (const stage of STAGES.filter((name) => names.includes(name))) {
    yield { kind: 'stage-started', at: now(), stage };
    const outcome = stage === 'test' ? 'skipped' : 'ok';
    yield { kind: 'stage-finished', at: now(), stage, outcome, ms: outcome === 'ok' ? ms : 0 };
  }
}

function host(name: string, phase: HostPhase, version: number, note?: string): RunEvent {
  return {
    kind: 'host',
    at: now(),
    host: name,
    phase,
    toplevel: toplevel(name, version),
    ...(note !== undefined && { note }),
  };
}

function report(name: string, more: Partial<AgentReport>): AgentReport {
  const system = toplevel(name, 1);
  return {
    version: 1,
    host: name,
    bootId: '5f0c2a6e',
    agentVersion: '0.1.0',
    at: now(),
    current: system,
    booted: system,
    profile: system,
    bootDefault: system,
    generation: 4,
    serial: 11,
    operation: 'idle',
    sync: 'synced',
    health: 'healthy',
    note: '',
    quarantined: [],
    ...more,
  };
}

function toplevel(name: string, version: number): string {
  return `/nix/store/${`${version}v8x0k4cq2ncdaszrmljbwdpqvi6y9hg3f`.slice(0, 32)}-nixos-system-${name}-26.05.${version}`;
}

function now(): string {
  return new Date().toISOString();
}
