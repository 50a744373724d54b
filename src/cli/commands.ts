// The table of commands: name, summary, and where the command lives. One line a command, in the order of `--help`.
import type { CommandEntry } from './command-entry.ts';

export const COMMANDS: readonly CommandEntry[] = [
  {
    name: 'up',
    summary: 'Run everything on this machine: cache, webhooks, poller, pipeline, status page',
    load: async () => (await import('./up-command.ts')).registerUp,
  },
  {
    name: 'serve',
    summary: 'Serve caches, webhooks, API and status page; start no process',
    load: async () => (await import('./serve-command.ts')).registerServe,
  },
  {
    name: 'ci',
    summary: 'Evaluate, re-key, build, cache, publish and deploy a fleet',
    load: async () => (await import('./ci-command.ts')).registerCi,
  },
  {
    name: 'plan',
    summary: 'Say what a release would change; build and publish nothing',
    load: async () => (await import('./ci-command.ts')).registerPlan,
  },
  {
    name: 'agent',
    summary: 'Bring releases to this host: poll, verify, try, keep or roll back',
    load: async () => (await import('./agent-command.ts')).registerAgent,
  },
  {
    name: 'cache',
    summary: 'Make binary caches and see what they hold',
    load: async () => (await import('./cache-command.ts')).registerCache,
  },
  {
    name: 'pin',
    summary: 'Keep paths in every cache until they are unpinned',
    load: async () => (await import('./pin-commands.ts')).registerPin,
  },
  {
    name: 'unpin',
    summary: 'Let go of a pin',
    load: async () => (await import('./pin-commands.ts')).registerUnpin,
  },
  {
    name: 'pins',
    summary: 'What is pinned, and what releases and hosts keep',
    load: async () => (await import('./pin-commands.ts')).registerPins,
  },
  {
    name: 'token',
    summary: 'Issue, list and revoke access tokens',
    load: async () => (await import('./token-command.ts')).registerToken,
  },
  {
    name: 'push',
    summary: 'Push the closures of store paths to a cache',
    load: async () => (await import('./push-command.ts')).registerPush,
  },
  {
    name: 'login',
    summary: 'Remember a server and a token, for push, use and watch-store',
    load: async () => (await import('./login-command.ts')).registerLogin,
  },
  {
    name: 'use',
    summary: "Let this machine's Nix read a cache",
    load: async () => (await import('./use-command.ts')).registerUse,
  },
  {
    name: 'watch-store',
    summary: 'Push every path that is built here, as it is built',
    load: async () => (await import('./watch-store-command.ts')).registerWatchStore,
  },
  {
    name: 'deploy',
    summary: 'Try new systems on hosts over ssh; they become permanent only when proven',
    load: async () => (await import('./deploy-command.ts')).registerDeploy,
  },
  {
    name: 'rollback',
    summary: 'Go back to an earlier generation of a host',
    load: async () => (await import('./rollback-command.ts')).registerRollback,
  },
  {
    name: 'diff',
    summary: 'Show which packages differ between what a host runs and what the flake has',
    load: async () => (await import('./diff-command.ts')).registerDiff,
  },
  {
    name: 'generations',
    summary: 'List the generations of a host',
    load: async () => (await import('./generations-command.ts')).registerGenerations,
  },
  {
    name: 'status',
    summary: 'Show what runs on hosts',
    load: async () => (await import('./status-command.ts')).registerStatus,
  },
  {
    name: 'secrets',
    summary: 'Say who reads which secret, re-key, verify, and write secrets without reading any',
    load: async () => (await import('./secrets-command.ts')).registerSecrets,
  },
  {
    name: 'doctor',
    summary: 'Check what this machine has of what Slipway needs',
    load: async () => (await import('./doctor-command.ts')).registerDoctor,
  },
  {
    name: 'completion',
    summary: 'Print completions for a shell',
    load: async () => (await import('./completion-command.ts')).completionFor(COMMANDS),
  },
];
