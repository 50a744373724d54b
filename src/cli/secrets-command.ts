// `slipway secrets …`: which host reads which secret, what a release would do with them, and writing one without being
// able to read any. Looks at the commit that is checked out; publishes nothing.
import { type Command, Option } from 'commander';
import { ERROR_CODES, SlipwayError } from '../util/errors.ts';
import type { CliIo } from './cli-io.ts';
import {
  findRelease,
  openCheckout,
  planCheckout,
  type Checkout,
  type CheckoutPlan,
} from './secrets-checkout.ts';
import { editInCheckout } from './secrets-edit.ts';
import { registerExposure } from './secrets-exposure.ts';
import { putInCheckout, readValue } from './secrets-put.ts';
import { rekeyInto, verifyTree } from './secrets-rekey.ts';
import { approveInCheckout } from './secrets-approve.ts';
import {
  formatGrantDiff,
  formatList,
  formatPlan,
  formatProblems,
  formatWarnings,
  planJson,
} from './secrets-text.ts';

interface Common {
  readonly repository: string;
  readonly json?: boolean;
}

interface WithRelease extends Common {
  readonly release?: string;
}

export function registerSecrets(program: Command, io: CliIo): void {
  const secrets = program
    .command('secrets')
    .description('Say who reads which secret, re-key, verify, and write secrets without reading any')
    .addHelpText('after', '\nExample:\n  slipway secrets plan');
  registerList(secrets, io);
  registerPlan(secrets, io);
  registerRekey(secrets, io);
  registerVerify(secrets, io);
  registerPut(secrets, io);
  registerEdit(secrets, io);
  registerApprove(secrets, io);
  registerExposure(secrets, io, (command) => withRelease(withRepository(command, io)));
}

function registerList(secrets: Command, io: CliIo): void {
  withRepository(secrets.command('list'), io)
    .description('Each secret with the hosts that read it')
    .addHelpText('after', '\nExample:\n  slipway secrets list --json')
    .action(async (options: Common) => {
      const { planned } = await plan(io, options);
      if (options.json === true) return printJson(io, planned);
      io.stdout(formatList(planned.plan, io.color));
      endWithProblems(io, planned);
    });
}

function registerPlan(secrets: Command, io: CliIo): void {
  withRelease(withRepository(secrets.command('plan'), io))
    .description(
      'What a release of this commit would re-key, keep and leave out, and why; needs no private key',
    )
    .addHelpText('after', '\nExample:\n  slipway secrets plan --release origin/release')
    .action(async (options: WithRelease) => {
      const { planned } = await plan(io, options);
      if (options.json === true) return printJson(io, planned);
      io.stdout(formatPlan(planned.plan, io.color));
      io.stdout(formatGrantDiff(planned.plan.grants, io.color));
      endWithProblems(io, planned);
    });
}

function registerRekey(secrets: Command, io: CliIo): void {
  withRelease(withRepository(secrets.command('rekey'), io))
    .description('Re-key into a folder, to look at what a release would hold; publishes nothing')
    .option('--rekey-identity <file>', 'the re-key identity: an age or SSH private key')
    .requiredOption('--output <folder>', 'where the re-keyed files go')
    .addHelpText('after', '\nExample:\n  slipway secrets rekey --rekey-identity rekey.key --output ./rekeyed')
    .action(async (options: WithRelease & { rekeyIdentity?: string; output: string }) => {
      const { checkout, planned } = await plan(io, options);
      const inputs = { identityFile: options.rekeyIdentity, signal: io.signal };
      const { counts } = await rekeyInto(options.output, checkout, planned, inputs);
      const text = `${counts.rekeyed} re-keyed, ${counts.reused} kept, ${counts.removed} left out: ${options.output}\n`;
      io.stdout(options.json === true ? `${JSON.stringify({ ok: true, ...counts })}\n` : text);
    });
}

function registerVerify(secrets: Command, io: CliIo): void {
  withRelease(withRepository(secrets.command('verify'), io))
    .description('Prove that each secret of the release opens for exactly its hosts')
    .option('--rekey-identity <file>', 'also try to read them with this key, which must fail')
    .addHelpText('after', '\nExample:\n  slipway secrets verify --release origin/release')
    .action(async (options: WithRelease & { rekeyIdentity?: string }) => {
      const checkout = await openCheckout(options.repository, io.signal);
      const tree = await findRelease(checkout, options.release);
      if (tree === undefined) throw noRelease(checkout);
      const inputs = { identityFile: options.rekeyIdentity, signal: io.signal };
      const problems = await verifyTree(tree, checkout, inputs);
      if (problems.length > 0) process.exitCode = ERROR_CODES.secrets_failed.exit;
      if (options.json === true) io.stdout(`${JSON.stringify({ ok: problems.length === 0, problems })}\n`);
      else if (problems.length > 0) io.stderr(formatProblems(problems, io.color));
      else io.stdout('Every secret of the release opens for its hosts and for nobody else.\n');
    });
}

function registerPut(secrets: Command, io: CliIo): void {
  withRepository(secrets.command('put'), io)
    .argument('<path>', 'the file in the repository, such as secrets/db.age')
    .description('Write a secret from standard input with public keys only: who writes it cannot read it')
    .option('--armor', 'write text instead of bytes')
    .addHelpText('after', '\nExample:\n  pwgen -s 40 1 | slipway secrets put secrets/db.age')
    .action(async (name: string, options: Common & { armor?: boolean }) => {
      const value = await readValue(process.stdin);
      try {
        const checkout = await openCheckout(options.repository, io.signal);
        const written = await putInCheckout(checkout, name, { value, armor: options.armor });
        const text = `Wrote ${written}. Next: git add ${written}, and commit.\n`;
        io.stdout(options.json === true ? `${JSON.stringify({ ok: true, path: written })}\n` : text);
      } finally {
        value.fill(0);
      }
    });
}

function registerEdit(secrets: Command, io: CliIo): void {
  const home = io.env['HOME'] ?? '/root';
  withRepository(secrets.command('edit'), io)
    .argument('<path>', 'the file in the repository; a new one when it does not exist')
    .description('Edit a secret in $EDITOR, in RAM; needs the private key of an editor of the file')
    .option('--identity <file...>', 'private keys to try (default: ~/.ssh/id_ed25519 and ~/.ssh/id_rsa)')
    .option('--allow-disk', 'let the plaintext lie on a disk where there is no folder in RAM')
    .addHelpText('after', '\nExample:\n  slipway secrets edit secrets/db.age')
    .action(async (name: string, options: Common & { identity?: string[]; allowDisk?: boolean }) => {
      const checkout = await openCheckout(options.repository, io.signal);
      const identityFiles = options.identity ?? [`${home}/.ssh/id_ed25519`, `${home}/.ssh/id_rsa`];
      const inputs = { identityFiles, allowDisk: options.allowDisk === true, env: io.env };
      const written = await editInCheckout(checkout, name, inputs);
      const text = written ? `Wrote ${name}. Next: git add ${name}, and commit.\n` : 'Nothing changed.\n';
      io.stdout(options.json === true ? `${JSON.stringify({ ok: true, path: name, written })}\n` : text);
    });
}

function registerApprove(secrets: Command, io: CliIo): void {
  withRelease(withRepository(secrets.command('approve'), io))
    .description('Sign what this commit grants beyond the last release, so that a release may go on')
    .requiredOption(
      '--key <file>',
      'your ssh key, one of the approvers’ (a .pub file when an agent holds it)',
    )
    .addHelpText('after', '\nExample:\n  slipway secrets approve --key ~/.ssh/id_ed25519')
    .action(async (options: WithRelease & { key: string }) => {
      const { checkout, planned } = await plan(io, options);
      const { grants } = planned.plan;
      const file = await approveInCheckout(checkout, planned, options.key);
      const next = `Signed as ${file}. Next: git add ${file}, commit and push.\n`;
      const answer = { ok: true, path: file, digest: grants.digest, increases: grants.increases };
      const text = `${formatGrantDiff(grants, io.color)}${file === undefined ? 'Nothing needs approval.\n' : next}`;
      io.stdout(options.json === true ? `${JSON.stringify(answer)}\n` : text);
    });
}

function withRepository(command: Command, io: CliIo): Command {
  return command
    .addOption(new Option('--repository <folder>', 'the checkout of the fleet').default(io.cwd, '.'))
    .option('--json', 'print one JSON object');
}

function withRelease(command: Command): Command {
  return command.option('--release <commit>', 'the release to compare with; default: the release branch');
}

async function plan(io: CliIo, options: WithRelease): Promise<{ checkout: Checkout; planned: CheckoutPlan }> {
  const checkout = await openCheckout(options.repository, io.signal);
  return { checkout, planned: await planCheckout(checkout, options.release, io.signal) };
}

function printJson(io: CliIo, { plan, failed }: CheckoutPlan): void {
  const ok = plan.problems.length === 0 && Object.keys(failed).length === 0;
  io.stdout(`${JSON.stringify({ ok, ...planJson(plan), failedHosts: failed })}\n`);
  setExitCode(plan.problems.length, failed);
}

function endWithProblems(io: CliIo, { plan, failed }: CheckoutPlan): void {
  for (const [host, reason] of Object.entries(failed))
    io.stderr(`${host} could not be evaluated: ${reason}\n`);
  io.stderr(formatWarnings(plan.warnings, io.color));
  io.stderr(formatProblems(plan.problems, io.color));
  setExitCode(plan.problems.length, failed);
}

function setExitCode(problems: number, failed: CheckoutPlan['failed']): void {
  if (Object.keys(failed).length > 0) process.exitCode = ERROR_CODES.evaluation_failed.exit;
  if (problems > 0) process.exitCode = ERROR_CODES.secrets_failed.exit;
}

function noRelease(checkout: Checkout): SlipwayError {
  const { branch } = checkout.fleet.config.release;
  return new SlipwayError('not_found', `This repository has no branch ${branch}: there is no release yet.`, {
    next: 'Fetch it, or name a commit with --release.',
  });
}
