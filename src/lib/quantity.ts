/**
 * Kubernetes quantities of bytes: `16Gi`, `10922Mi`, `4e9`, `12884901888`. Bytes are JavaScript numbers: a Mac's
 * memory and a model's weights stay far below 2^53.
 */
import { OpError } from './errors.ts'

const suffixes: Readonly<Record<string, number>> = {
  '': 1,
  k: 1e3,
  M: 1e6,
  G: 1e9,
  T: 1e12,
  P: 1e15,
  Ki: 2 ** 10,
  Mi: 2 ** 20,
  Gi: 2 ** 30,
  Ti: 2 ** 40,
  Pi: 2 ** 50,
}
const pattern = /^(\d+(?:\.\d+)?(?:[eE]\d+)?)(Ki|Mi|Gi|Ti|Pi|k|M|G|T|P)?$/

/** Bytes of a quantity, or undefined when it is not one. */
export function tryParseBytes(text: string | number): number | undefined {
  const match = pattern.exec(String(text).trim())
  if (match === null) return undefined
  const bytes = Math.round(Number(match[1]) * (suffixes[match[2] ?? ''] ?? 1))
  return Number.isSafeInteger(bytes) ? bytes : undefined
}

/** Bytes of a quantity; an OpError Invalid names what was wrong with it. */
export function parseBytes(text: string | number): number {
  const bytes = tryParseBytes(text)
  if (bytes === undefined)
    throw new OpError(
      'Invalid',
      `Invalid value: "${text}": must be a quantity of bytes such as 16Gi, 10922Mi or 12884901888`,
    )
  return bytes
}

/** The exact quantity for storing: the largest binary suffix that divides the bytes evenly. */
export function quantityOf(bytes: number): string {
  for (const suffix of ['Ti', 'Gi', 'Mi', 'Ki'] as const) {
    const unit = suffixes[suffix] as number
    if (bytes >= unit && bytes % unit === 0) return `${bytes / unit}${suffix}`
  }
  return String(bytes)
}

/** For people: `10.9Gi`, `512Mi`, `0`. One decimal from 1 Gi on. */
export function formatBytes(bytes: number): string {
  if (bytes >= 2 ** 30) return `${(bytes / 2 ** 30).toFixed(1)}Gi`
  if (bytes >= 2 ** 20) return `${Math.round(bytes / 2 ** 20)}Mi`
  if (bytes >= 2 ** 10) return `${Math.round(bytes / 2 ** 10)}Ki`
  return String(bytes)
}
