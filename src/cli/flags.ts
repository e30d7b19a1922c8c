/** Values of flags, checked. */
import { CliError } from './context.ts'

export function positiveInteger(flag: string, text: string): number {
  const value = Number(text)
  if (!Number.isInteger(value) || value < 1)
    throw new CliError(`${flag} must be an integer greater than or equal to 1, not "${text}"`)
  return value
}
