// How a command fails: one message with its cause, the next step, and an exit code from the table.
import { asSlipwayError, exitCode, type SlipwayError } from '../util/errors.ts';
import type { CliIo } from './cli-io.ts';
import { makeStyle, stripControl } from './style.ts';

/** Prints the failure (as JSON where asked) and returns the exit code. */
export function reportFailure(io: CliIo, thrown: unknown, json: boolean): number {
  const error = asSlipwayError(thrown);
  if (json) io.stdout(`${JSON.stringify({ ok: false, error: failureJson(error) })}\n`);
  else io.stderr(failureText(io, error));
  return exitCode(error);
}

export function failureJson(error: SlipwayError): Record<string, unknown> {
  return { code: error.code, message: error.message, next: error.next, ...withFacts(error) };
}

function withFacts(error: SlipwayError): Record<string, unknown> {
  return Object.keys(error.facts).length === 0 ? {} : { facts: error.facts };
}

function failureText(io: CliIo, error: SlipwayError): string {
  const style = makeStyle(io.color);
  const lines = [`${style.bad('error')} ${style.dim(`[${error.code}]`)} ${stripControlLines(error.message)}`];
  if (error.next !== undefined) lines.push(`${style.accent(' next')} ${stripControlLines(error.next)}`);
  if (error.code === 'internal' && io.env['SLIPWAY_DEBUG'] !== undefined) lines.push(error.stack ?? '');
  return `${lines.join('\n')}\n`;
}

function stripControlLines(text: string): string {
  return text.split('\n').map(stripControl).join('\n      ');
}
