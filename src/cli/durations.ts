/** `30s`, `5m`, `1h30m`, `0`, `-1s`: durations of flags, in ms. */
import { CliError } from './context.ts'

const units: Readonly<Record<string, number>> = { ms: 1, s: 1000, m: 60_000, h: 3_600_000, d: 86_400_000 }

export function parseDurationMs(text: string): number {
  if (text === '0') return 0
  const sign = text.startsWith('-') ? -1 : 1
  const parts = [...text.replace(/^-/, '').matchAll(/(\d+(?:\.\d+)?)(ms|s|m|h|d)/g)]
  if (parts.map((p) => p[0]).join('') !== text.replace(/^-/, '') || parts.length === 0)
    throw new CliError(`invalid duration "${text}"; use for example 30s, 5m or 1h30m`)
  return sign * parts.reduce((sum, part) => sum + Number(part[1]) * (units[part[2] ?? 's'] ?? 0), 0)
}
