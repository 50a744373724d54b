// The local adapter against the Host contract.
import { openLocalHost } from '../../src/effects/local-host.ts';
import { hostContract } from './host.contract.ts';

hostContract('LocalHost', async () => openLocalHost('testhost'));
