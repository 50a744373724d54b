// A push deploy with every knob in reach, run on the controller side of a world: `deploy-driver-main.ts JSON`, where JSON is
// { name, address, hostKey?, request }. Phases go to stderr as they come, the outcome to stdout.
import { healthConfig } from '../../src/api/fleet-config.ts';
import { deployToHost } from '../../src/deploy/deploy-to-host.ts';
import { deployError } from '../../src/deploy/deploy-outcome.ts';
import type { DeployRequest } from '../../src/deploy/deploy-request.ts';
import { openSshHost } from '../../src/effects/ssh-host.ts';
import { asSlipwayError } from '../../src/util/errors.ts';

interface Order {
  readonly name: string;
  readonly address: string;
  readonly hostKey: string;
  readonly port?: number;
  /** More words for ssh. */
  readonly options?: readonly string[];
  readonly request: Omit<DeployRequest, 'health'> & { readonly health?: object };
}

const order = JSON.parse(process.argv[2] ?? '') as Order;
const { name, address, hostKey, port = 22, options = [] } = order;
const target = { name, address, user: 'root', port, options, hostKeys: [hostKey] };
const request: DeployRequest = { ...order.request, health: healthConfig.parse(order.request.health ?? {}) };
try {
  await using host = await openSshHost(target);
  const outcome = await deployToHost(host, request, (event) => {
    if (event.kind === 'host') process.stderr.write(`phase ${event.phase} ${event.note ?? ''}\n`);
    if (event.kind === 'log') process.stderr.write(`log ${event.line}\n`);
    if (event.kind === 'span') process.stderr.write(`span ${event.name} ${Math.round(event.ms)}\n`);
  });
  const error = deployError(outcome);
  process.stdout.write(
    `${JSON.stringify({ ...outcome, error: undefined, code: error?.code, message: error?.message })}\n`,
  );
} catch (error) {
  const { code, message, next } = asSlipwayError(error);
  process.stdout.write(`${JSON.stringify({ kind: 'failed', code, message, next })}\n`);
}
