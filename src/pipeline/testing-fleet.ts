// A release for one host alone, to try a branch on it: `<release>-testing-<host>`, on top of the release as comin wants
// testing branches to be, with nobody else's secrets in it.
import { SlipwayError } from '../util/errors.ts';
import type { FleetFacts } from './fleet-facts.ts';

/** The fleet as if it had only this host. */
export function testingFleet(fleet: FleetFacts, host: string): FleetFacts {
  const settings = fleet.hosts.get(host);
  if (settings === undefined) {
    throw new SlipwayError('not_found', `The flake has no host ${host}.`, {
      next: `Choose one of: ${[...fleet.hosts.keys()].join(', ')}.`,
    });
  }
  const { release } = fleet.config;
  const branch = `${release.branch}-testing-${host}`;
  const config = { ...fleet.config, release: { ...release, branch } };
  return { ...fleet, config, hosts: new Map([[host, settings]]) };
}
