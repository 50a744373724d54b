// Opens a world, tells where it is, and stays: for tests that kill it from outside. Usage: hold-main.ts [HOST]…
import { openWorld } from './world.ts';

const world = await openWorld({ hosts: process.argv.slice(2) });
const { folder, janitor, init } = world;
process.stdout.write(JSON.stringify({ folder, janitor, init }) + '\n');
// Whoever started us is gone, however that came: so are we, and with us the world.
process.stdin.on('end', () => process.exit(0)).resume();
