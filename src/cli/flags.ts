/** Values of flags, checked. */
import { CliError } from './context.ts'

export function positiveInteger(flag: string, text: string): number {
  const value = Number(text)
  if (!Number.isInteger(value) || value < 1)
    throw new CliError(`${flag} must be an integer greater than or equal to 1, not "${text}"`)
  return value
}

export type DryRun = 'none' | 'client' | 'server'

/** `--dry-run`'s value; CliError in kubectl's words. */
export function dryRunOf(text = 'none'): DryRun {
  if (text !== 'none' && text !== 'client' && text !== 'server')
    throw new CliError(`invalid dry-run value (${text}). Must be "none", "server", or "client"`)
  return text
}

/** What a sentence about a change that was not made ends with. */
export const dryRunSuffix = (dryRun: string | undefined): string =>
  dryRun === 'server' ? ' (server dry run)' : dryRun === 'client' ? ' (dry run)' : ''
