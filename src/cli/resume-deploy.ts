// `slipway deploy resume HOST`: takes up a deploy whose client was lost: follows it to its end, over a reboot too, and reports that. It cannot
// confirm: the token died with the client, so a trial that still waits for it goes back.
import { isFinal } from '../api/deploy-state.ts';
import { outcomeOf } from '../deploy/deploy-outcome.ts';
import { DeployProgress } from '../deploy/deploy-progress.ts';
import { followTrial } from '../deploy/follow-trial.ts';
import { listTrials } from '../deploy/trial.ts';
import { SlipwayError } from '../util/errors.ts';
import type { CliIo } from './cli-io.ts';
import { openProgressView } from './deploy-progress-view.ts';
import { reportOutcomes } from './deploy-report.ts';
import { chooseHosts, type HostOptions, openChosenHost } from './host-options.ts';

export async function resumeDeploy(names: readonly string[], options: HostOptions, io: CliIo): Promise<void> {
  const started = performance.now();
  if (names.length === 0 && options.host === undefined)
    throw new SlipwayError('invalid', 'Which host?', { next: 'slipway deploy resume HOST' });
  const json = options.json === true;
  const hosts = await chooseHosts(names, options, io);
  using view = openProgressView(io, { json, hosts: hosts.map(({ name }) => name) });
  const outcomes = [];
  for (const chosen of hosts) {
    await using host = await openChosenHost(chosen, options, io);
    const trials = await listTrials(host);
    const trial = trials.find(({ phase }) => !isFinal(phase)) ?? trials[0];
    if (trial === undefined)
      throw new SlipwayError('not_found', `${chosen.name} has no deploy on record.`, {
        next: `Begin one: slipway deploy ${chosen.name}`,
      });
    const progress = new DeployProgress(chosen.name, trial.toplevel, view.emit);
    const watcher = {
      onState: (state: typeof trial): void => progress.state(state),
      onLog: (line: string): void => progress.log(line),
    };
    outcomes.push(outcomeOf(chosen.name, await followTrial(host, trial.id, watcher, io.signal)));
  }
  view[Symbol.dispose]();
  reportOutcomes(io, outcomes, { json, ms: performance.now() - started });
}
