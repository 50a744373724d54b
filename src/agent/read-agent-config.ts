// Reads the agent's TOML file and checks it at the door, so that nothing later has to.
import { readFile } from 'node:fs/promises';
import { parse } from 'smol-toml';
import { agentConfig, type AgentConfig } from '../api/agent-config.ts';
import { formatIssue } from '../api/issue-text.ts';
import { messageOf, SlipwayError } from '../util/errors.ts';

/** The configuration; `not_found` without the file, `invalid` with the place of the first mistake. */
export async function readAgentConfig(file: string): Promise<AgentConfig> {
  return parseAgentConfig(await readText(file), file);
}

export function parseAgentConfig(text: string, file: string): AgentConfig {
  const parsed = agentConfig.safeParse(parseToml(text, file));
  if (parsed.success) return parsed.data;
  // An unknown key is reported first: it is most often the misspelt name of what is missing.
  const first =
    parsed.error.issues.find((issue) => issue.code === 'unrecognized_keys') ?? parsed.error.issues[0];
  throw new SlipwayError('invalid', `${file}: ${formatIssue(first)}.`, {
    next: 'Correct the file; docs/AGENT.md lists every setting.',
    facts: { issues: parsed.error.issues.slice(0, 20).map(formatIssue) },
  });
}

async function readText(file: string): Promise<string> {
  try {
    return await readFile(file, 'utf8');
  } catch (cause) {
    throw new SlipwayError('not_found', `The configuration ${file} cannot be read: ${messageOf(cause)}.`, {
      next: 'Name it with --config, or let the NixOS module services.slipway.agent write it.',
      cause,
    });
  }
}

function parseToml(text: string, file: string): unknown {
  try {
    return parse(text);
  } catch (cause) {
    throw new SlipwayError('invalid', `${file} is not TOML: ${messageOf(cause)}`, { cause });
  }
}
