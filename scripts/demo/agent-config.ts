// What `slipway up --json` tells when it listens, and the agent's configuration that a fleet writes from it.

export interface ServerFacts {
  readonly releaseKey: string;
  readonly rekeyRecipient: string;
  readonly caches: readonly {
    readonly name: string;
    readonly url: string;
    readonly publicKeys: readonly string[];
  }[];
  readonly adminTokenFile: string;
  readonly webhookSecretFile: string;
}

/** pi1's agent.toml. Short times: a demo is watched, a real host waits two minutes before it gives a network up. */
export function formatAgentConfig(repository: string, server: string, facts: ServerFacts): string {
  return `# Written by make demo.
host = "pi1"
releaseKeys = ["${facts.releaseKey}"]
netrcFile = "/etc/slipway/netrc"

[[remotes]]
url = "${repository}"
branch = "release"
poll = 1

[controller]
url = "${server}"
token = "file:/etc/slipway/token"

[timeouts]
probe = 6
`;
}
