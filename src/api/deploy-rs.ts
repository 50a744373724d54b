// deploy-rs' `deploy` flake output as its users write it: its interface.json, plus `sudo` and `remoteBuild`, which only
// its code knows. Keys that it does not know are ignored, as there; null counts as absent.
import * as z from 'zod/mini';
import { storePathText } from './manifest.ts';

const text = z.string();
const userName = z.string().check(z.regex(/^[A-Za-z_][A-Za-z0-9_.-]*\$?$/, 'not a user name'));
/** deploy-rs holds them in 16 bits. */
const seconds = z.int().check(z.minimum(0), z.maximum(65_535));

const generic = {
  sshUser: z.nullish(userName),
  user: z.nullish(userName),
  sshOpts: z.nullish(z.array(text)),
  fastConnection: z.nullish(z.boolean()),
  autoRollback: z.nullish(z.boolean()),
  magicRollback: z.nullish(z.boolean()),
  confirmTimeout: z.nullish(seconds),
  activationTimeout: z.nullish(seconds),
  tempPath: z.nullish(text),
  sudo: z.nullish(text),
  remoteBuild: z.nullish(z.boolean()),
  interactiveSudo: z.nullish(z.boolean()),
};

/** Names end up in paths and units' names. */
const name = z.string().check(z.regex(/^[A-Za-z0-9_][A-Za-z0-9._-]{0,127}$/, 'not a usable name'));

export const deployRsProfile = z.object({
  ...generic,
  path: storePathText,
  profilePath: z.nullish(z.string().check(z.regex(/^\/[A-Za-z0-9._/+@-]+$/, 'not a usable absolute path'))),
});

export const deployRsNode = z.object({
  ...generic,
  hostname: z.string().check(z.regex(/^[A-Za-z0-9:_][A-Za-z0-9.:_%-]*$/, 'not an address')),
  profilesOrder: z.nullish(z.array(text)),
  profiles: z.record(name, deployRsProfile),
});

export const deployRsGeneric = z.object(generic);

/** What is left of the output once only the wanted nodes and profiles were evaluated. */
export const deployRsOutput = z.object({ ...generic, nodes: z.record(name, deployRsNode) });

export type DeployRsGeneric = z.infer<typeof deployRsGeneric>;
export type DeployRsNode = z.infer<typeof deployRsNode>;
export type DeployRsOutput = z.infer<typeof deployRsOutput>;

/** The generic settings, which may stand at the output, a node or a profile. */
export const DEPLOY_RS_SETTINGS = Object.keys(generic);
