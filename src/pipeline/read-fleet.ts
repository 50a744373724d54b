// Reads what a flake says about its fleet: one evaluation, and a second one where agenix' secrets.nix has to say who the
// editors are. Forces no host.
import { publicKeys } from '../api/fleet-config.ts';
import { evaluateNix, type EvaluateOptions, type Nix } from '../effects/nix-cli.ts';
import { keyFingerprint } from '../secrets/key-fingerprint.ts';
import { parseRules } from '../secrets/secrets-rules.ts';
import { isCode } from '../util/errors.ts';
import { type FleetFacts, fleetExpression, parseFleetFacts } from './fleet-facts.ts';
import { type FlakeSource, formatFlakeExpression } from './flake-source.ts';

export async function readFleet(nix: Nix, source: FlakeSource, bounds: EvaluateOptions): Promise<FleetFacts> {
  const facts = parseFleetFacts(await evaluateNix(nix, fleetExpression(source), bounds));
  if (facts.rules === undefined) return facts;
  const editors = await readRuleKeys(nix, source, facts.rules, bounds);
  const hosts = new Set([...facts.hosts.values()].flatMap(publicKeys).map(keyFingerprint));
  const people = editors.filter((line) => !hosts.has(keyFingerprint(line)));
  const { config } = facts;
  return { ...facts, config: { ...config, secrets: { ...config.secrets, editors: people } } };
}

/** Who it does not name is no editor; a file that needs more than pure evaluation names nobody. */
async function readRuleKeys(
  nix: Nix,
  source: FlakeSource,
  rules: string,
  bounds: EvaluateOptions,
): Promise<readonly string[]> {
  const expression = `import (${formatFlakeExpression(source)}.sourceInfo.outPath + "/${rules}")`;
  try {
    const value = await evaluateNix(nix, expression, bounds);
    const keys = [...parseRules(rules, value).values()].flatMap((rule) => rule.publicKeys);
    return [...new Map(keys.map((line) => [keyFingerprint(line), line])).values()];
  } catch (error) {
    if (isCode(error, 'evaluation_failed') || isCode(error, 'invalid')) return [];
    throw error;
  }
}
